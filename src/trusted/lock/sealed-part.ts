// enclave.sealed: the lock's secrets under the bundle key. Zone: trusted; the owner writes it, the enclave opens it. DESIGN section 5.
// It is bound to scheme and shape, not to the bundle's id, because that id covers this file's hash.
import { openBytes } from '../wire/aead.js';
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

/** What the sealed part is bound to, as associated data. */
export function partAssociated(scheme: Scheme, shape: LockShape): Uint8Array {
  return new Writer()
    .text('distillock enclave.sealed v1')
    .text(scheme)
    .u32(shape.vocabSize)
    .u32(shape.hiddenSize)
    .finish();
}

/** Throws VerificationError('sealed') for another key, scheme or shape, or altered bytes. */
export function openPart(blob: Uint8Array, bundleKey: Uint8Array, scheme: Scheme, shape: LockShape): SealedPart {
  const reader = new Reader(openBytes(bundleKey, partAssociated(scheme, shape), blob));
  const part = { lockSeed: reader.raw(SEED_BYTES) };
  reader.end();
  return part;
}
