// manifest.json: what a bundle contains and how its parts are placed. Zone: trusted (the enclave reads it too). DESIGN section 5.
// Canonical JSON, signed detached as manifest.jws; the bundle's id is the SHA-256 of its bytes.
import { createHash } from 'node:crypto';
import { encodeHex } from './bytes.js';
import { type JsonObject, parseCanonicalJson } from './canonical-json.js';
import { Fields } from './fields.js';
import { type PublicKeyBytes, verifyJws } from './jws.js';
import { MAX_MANIFEST_BYTES } from './limits.js';

export const FORMAT_VERSION = 1;
export type Scheme = 'permutation' | 'rotation';
/** Integer formats of the accelerator's matrices; `none`: float32. */
export type Quantization = 'none' | 'int8' | 'int4';
export type Place = 'accelerator' | 'enclave';

export interface Plan {
  readonly embedding: Place;
  readonly blocks: readonly Place[];
  readonly head: Place;
}
/** A run of parts in one place; paths lie inside the bundle. */
export type BundleSegment =
  | { readonly place: 'accelerator'; readonly name: string; readonly graph: string; readonly data: string }
  | {
      readonly place: 'enclave';
      readonly name: string;
      /** Graphs and weights, each piece sealed under the bundle key. */
      readonly sealed: string;
      readonly precision: EnclavePrecision;
    };
/** How an enclave-held part computes: float32, or int8 weights and per-token int8 activations. */
export type EnclavePrecision = 'float32' | 'int8';
export interface BundleFile {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}
export interface Manifest {
  readonly formatVersion: typeof FORMAT_VERSION;
  readonly createdBy: string;
  /** The public shape (`DecoderConfig`); trusted code reads only `vocabSize` and `hiddenSize`. */
  readonly model: JsonObject & { readonly vocabSize: number; readonly hiddenSize: number };
  readonly scheme: Scheme;
  readonly quantize: Quantization;
  readonly plan: Plan;
  readonly segments: readonly BundleSegment[];
  /** Every other file of the bundle, sorted by path. */
  readonly files: readonly BundleFile[];
  readonly ownerKeyId: string;
  readonly tokenizerSha256: string;
}

export const SEALED_PART = 'enclave.sealed';
/** Hex SHA-256 of manifest.json: names the bundle in licences, evidence and receipts. */
export function bundleId(manifestBytes: Uint8Array): string {
  return encodeHex(createHash('sha256').update(manifestBytes).digest());
}

/**
 * What the owner signed, whose `encodeManifest` checked every field; the other side checks them again with model/bundle-manifest.ts.
 * Throws VerificationError for a foreign owner, MalformedError for another format version or text that is not canonical.
 */
export function verifyManifest(bytes: Uint8Array, jws: string, ownerKey: PublicKeyBytes): Manifest {
  verifyJws('manifest', jws, ownerKey, bytes);
  const manifest = parseCanonicalJson(bytes, MAX_MANIFEST_BYTES);
  new Fields(manifest, 'manifest').integer('formatVersion', FORMAT_VERSION, FORMAT_VERSION);
  return manifest as unknown as Manifest;
}
