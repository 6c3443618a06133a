// manifest.json: what a bundle contains and how its parts are placed. Zone: trusted (the enclave reads it too). DESIGN section 5.
// Canonical JSON, signed detached as manifest.jws; the bundle's id is the SHA-256 of its bytes.
import { createHash } from 'node:crypto';
import { encodeHex } from './bytes.js';
import { type JsonObject, type JsonValue, parseCanonicalJson } from './canonical-json.js';
import { MalformedError } from './errors.js';
import { Fields } from './fields.js';
import { type PublicKeyBytes, verifyJws } from './jws.js';
import { MAX_HIDDEN_SIZE, MAX_MANIFEST_BYTES, MAX_VOCAB_SIZE } from './limits.js';

export const FORMAT_VERSION = 1;
export type Scheme = 'permutation' | 'rotation';
export const SCHEMES: readonly Scheme[] = ['permutation', 'rotation'];
/** Integer formats of the accelerator's matrices; `none`: float32. */
export const QUANTIZATIONS = ['none', 'int8', 'int4'] as const;
export type Quantization = (typeof QUANTIZATIONS)[number];
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
const PLACES: readonly Place[] = ['accelerator', 'enclave'];
const PRECISIONS: readonly EnclavePrecision[] = ['float32', 'int8'];
/** Relative, at most one folder deep, no dot files: nothing outside the bundle can be named. */
const PATH = /^(?:[a-z0-9_-]{1,64}\/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;

/** Hex SHA-256 of manifest.json: names the bundle in licences, evidence and receipts. */
export function bundleId(manifestBytes: Uint8Array): string {
  return encodeHex(createHash('sha256').update(manifestBytes).digest());
}

function parsePlace(value: unknown): Place {
  const place = PLACES.find((known) => known === value);
  if (place === undefined) throw new MalformedError('manifest', 'manifest.plan.blocks: unknown place');
  return place;
}

function parseSegment(item: JsonValue): BundleSegment {
  const segment = new Fields(item, 'manifest.segments');
  const name = segment.text('name', /^[a-z0-9-]+$/);
  const path = (key: string): string => segment.text(key, PATH);
  const read: BundleSegment =
    segment.choice('place', PLACES) === 'accelerator'
      ? { place: 'accelerator', name, graph: path('graph'), data: path('data') }
      : { place: 'enclave', name, sealed: path('sealed'), precision: segment.choice('precision', PRECISIONS) };
  segment.end();
  return read;
}

/** Every file that a segment needs. */
export function segmentFiles(segment: BundleSegment): readonly string[] {
  return segment.place === 'accelerator' ? [segment.graph, segment.data] : [segment.sealed];
}

/** Throws MalformedError on any missing, unknown or out-of-range field, and on two files of one path. */
export function parseManifest(bytes: Uint8Array): Manifest {
  const fields = new Fields(parseCanonicalJson(bytes, MAX_MANIFEST_BYTES), 'manifest');
  const formatVersion = fields.integer('formatVersion', FORMAT_VERSION, FORMAT_VERSION) as typeof FORMAT_VERSION;
  const shape = fields.record('model');
  shape.integer('vocabSize', 1, MAX_VOCAB_SIZE);
  shape.integer('hiddenSize', 1, MAX_HIDDEN_SIZE);
  const plan = fields.record('plan');
  const manifest: Manifest = {
    formatVersion,
    createdBy: fields.text('createdBy', /^[ -~]{1,64}$/),
    model: fields.value('model') as Manifest['model'],
    scheme: fields.choice('scheme', SCHEMES),
    quantize: fields.choice('quantize', QUANTIZATIONS),
    plan: {
      embedding: plan.choice('embedding', PLACES),
      blocks: plan.list('blocks', 4096).map(parsePlace),
      head: plan.choice('head', PLACES),
    },
    segments: fields.list('segments', 4096).map(parseSegment),
    files: fields.list('files', 8192).map((item) => {
      const file = new Fields(item, 'manifest.files');
      const size = file.integer('size', 0, Number.MAX_SAFE_INTEGER);
      const read = { path: file.text('path', PATH), size, sha256: file.text('sha256', DIGEST) };
      file.end();
      return read;
    }),
    ownerKeyId: fields.text('ownerKeyId', /^[A-Za-z0-9_-]{43}$/),
    tokenizerSha256: fields.text('tokenizerSha256', DIGEST),
  };
  plan.end();
  fields.end();
  const paths = new Set(manifest.files.map((file) => file.path));
  const needed = [SEALED_PART, ...manifest.segments.flatMap(segmentFiles)];
  if (paths.size !== manifest.files.length || needed.some((path) => !paths.has(path))) {
    throw new MalformedError('manifest', 'manifest.files: a path is listed twice, or a needed file is not listed');
  }
  return manifest;
}

/** Signature first, contents second. Throws VerificationError for a foreign owner, MalformedError for anything else wrong. */
export function verifyManifest(bytes: Uint8Array, jws: string, ownerKey: PublicKeyBytes): Manifest {
  verifyJws('manifest', jws, ownerKey, bytes);
  return parseManifest(bytes);
}
