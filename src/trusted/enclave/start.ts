// What must hold before the enclave answers anything: the owner signed this bundle, its sealed part is the listed one. Zone: trusted.
import { createHash, generateKeyPairSync } from 'node:crypto';
import { decodeBase64url } from '../wire/base64url.js';
import { encodeHex } from '../wire/bytes.js';
import { VerificationError } from '../wire/errors.js';
import { keyId } from '../wire/jws.js';
import { bundleId, type Manifest, SEALED_PART, verifyManifest } from '../wire/manifest.js';
import type { PlatformPort } from './port.js';
import { type EnclaveRecord, openNewest } from './record.js';

export interface SigningKey {
  readonly secret: Uint8Array;
  readonly key: Uint8Array;
}

export interface EnclaveStart {
  readonly manifest: Manifest;
  readonly bundleId: string;
  readonly record: EnclaveRecord | null;
  readonly version: number;
  readonly signing: SigningKey;
}

function newSigningKey(): SigningKey {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  return { secret: decodeBase64url(jwk.d ?? ''), key: decodeBase64url(jwk.x ?? '') };
}

/** Throws MalformedError or VerificationError ('signature', 'owner-key', 'sealed-part', 'sealed-state'). */
export function startEnclave(port: PlatformPort): EnclaveStart {
  const { manifest: bytes, manifestJws, sealedPart } = port.bundle;
  const manifest = verifyManifest(bytes, manifestJws, port.ownerKey);
  if (manifest.ownerKeyId !== keyId(port.ownerKey)) {
    throw new VerificationError('owner-key', 'manifest.json names another owner key than the one that signed it');
  }
  const listed = manifest.files.find((file) => file.path === SEALED_PART);
  if (listed?.sha256 !== encodeHex(createHash('sha256').update(sealedPart).digest())) {
    throw new VerificationError('sealed-part', `${SEALED_PART} is not the file that manifest.json lists`);
  }
  const id = bundleId(bytes);
  const sealed = port.loadState();
  if (sealed.length === 0) return { manifest, bundleId: id, record: null, version: 0, signing: newSigningKey() };
  const { record, version } = openNewest(sealed, port.sealingKey, id);
  const signing = record.kind === 'live' ? { secret: record.signingSecret, key: record.signingKey } : newSigningKey();
  return { manifest, bundleId: id, record, version, signing };
}
