// enclave.sealed: the lock's secrets under the bundle key. Zone: trusted; the owner writes it, the enclave opens it. DESIGN section 5.
// It is bound to scheme and shape, not to the bundle's id, because that id covers this file's hash.
import { createHash, hkdfSync } from 'node:crypto';
import { openBytes, sealBytes } from '../wire/aead.js';
import { encodeUtf8 } from '../wire/bytes.js';
import { Reader, Writer } from '../wire/codec.js';
import type { Scheme } from '../wire/manifest.js';
import { SEED_BYTES } from './stream.js';

/** What the sealed part is bound to besides the scheme. */
export interface LockShape {
  readonly hiddenSize: number;
  readonly vocabSize: number;
}

export interface SealedPart {
  readonly lockSeed: Uint8Array;
}

function associated(scheme: Scheme, shape: LockShape): Uint8Array {
  return new Writer()
    .text('distillock enclave.sealed v1')
    .text(scheme)
    .u32(shape.vocabSize)
    .u32(shape.hiddenSize)
    .finish();
}

/** The nonce is derived from key and contents: locking again from the same seed gives the same bundle, byte for byte. */
export function sealPart(part: SealedPart, bundleKey: Uint8Array, scheme: Scheme, shape: LockShape): Uint8Array {
  const plaintext = new Writer().raw(part.lockSeed).finish();
  const aad = associated(scheme, shape);
  const digest = createHash('sha256').update(aad).update(plaintext).digest();
  const nonce = new Uint8Array(hkdfSync('sha256', bundleKey, encodeUtf8('enclave.sealed nonce'), digest, 12));
  return sealBytes(bundleKey, nonce, aad, plaintext);
}

/** Throws VerificationError('sealed') for another key, scheme or shape, or altered bytes. */
export function openPart(blob: Uint8Array, bundleKey: Uint8Array, scheme: Scheme, shape: LockShape): SealedPart {
  const reader = new Reader(openBytes(bundleKey, associated(scheme, shape), blob));
  const part = { lockSeed: reader.raw(SEED_BYTES) };
  reader.end();
  return part;
}
