// Seals what a bundle hides: enclave.sealed, and the pieces of enclave-held segments. Zone: owner. DESIGN section 5.
// The other half, how the enclave opens them, is trusted code: lock/sealed-part.ts and lock/sealed-segment.ts.
import { createHash, hkdfSync } from 'node:crypto';
import { type LockShape, partAssociated, type SealedPart } from '../trusted/lock/sealed-part.js';
import { pieceAssociated, type SealedIndex } from '../trusted/lock/sealed-segment.js';
import { SEAL_OVERHEAD, sealBytes } from '../trusted/wire/aead.js';
import { encodeUtf8 } from '../trusted/wire/bytes.js';
import { encodeCanonicalJson } from '../trusted/wire/canonical-json.js';
import { Writer } from '../trusted/wire/codec.js';
import type { Scheme } from '../trusted/wire/manifest.js';

/** The nonce is derived from key and contents: locking again from the same seed gives the same bundle, byte for byte. */
export function sealPart(part: SealedPart, bundleKey: Uint8Array, scheme: Scheme, shape: LockShape): Uint8Array {
  const plaintext = new Writer().raw(part.lockSeed).finish();
  const aad = partAssociated(scheme, shape);
  const digest = createHash('sha256').update(aad).update(plaintext).digest();
  const nonce = new Uint8Array(hkdfSync('sha256', bundleKey, encodeUtf8('enclave.sealed nonce'), digest, 12));
  return sealBytes(bundleKey, nonce, aad, plaintext);
}

/** The nonce comes from key, place and contents: locking again gives the same bytes, other contents another nonce. */
export function sealPiece(key: Uint8Array, piece: number, plaintext: Uint8Array): Uint8Array {
  const aad = pieceAssociated(piece);
  const digest = createHash('sha256').update(aad).update(plaintext).digest();
  return sealBytes(key, new Uint8Array(hkdfSync('sha256', key, encodeUtf8('nonce'), digest, 12)), aad, plaintext);
}

/** The file's plain head for pieces of these plaintext sizes. */
export function encodeDirectory(sizes: readonly number[]): Uint8Array {
  const writer = new Writer().u32(sizes.length);
  for (const size of sizes) writer.u64(size + SEAL_OVERHEAD);
  return writer.finish();
}

export function encodeIndex(index: SealedIndex): Uint8Array {
  return encodeCanonicalJson(index);
}
