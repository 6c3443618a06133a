// AES-256-GCM as one blob: nonce (12), tag (16), ciphertext. Zone: trusted. Used for enclave.sealed and the sealed state.
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { concatBytes } from './bytes.js';
import { VerificationError } from './errors.js';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CHUNK_BYTES = 64 * 1024;
/** A blob is this much longer than its plaintext. */
export const SEAL_OVERHEAD: number = NONCE_BYTES + TAG_BYTES;

/** The caller guarantees that `nonce` (12 bytes) is used once per key and plaintext. */
export function sealBytes(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  const ciphertext = concatBytes(cipher.update(plaintext), cipher.final());
  return concatBytes(nonce, cipher.getAuthTag(), ciphertext);
}

/**
 * The plaintext, in `into` where given. Throws VerificationError('sealed') when the key is another one, any bit of blob or `aad` differs,
 * or the plaintext has another length than `into`; what is in `into` then means nothing.
 */
export function openBytes(key: Uint8Array, aad: Uint8Array, blob: Uint8Array, into?: Uint8Array): Uint8Array {
  const length = blob.length - SEAL_OVERHEAD;
  if (length < 0 || length !== (into?.length ?? length))
    throw new VerificationError('sealed', 'sealed bytes have another length than expected');
  const tag = blob.subarray(NONCE_BYTES, SEAL_OVERHEAD);
  const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(0, NONCE_BYTES)).setAAD(aad).setAuthTag(tag);
  const plaintext = into ?? new Uint8Array(length);
  // In chunks, which are small enough to be reused at once: a model's weights pass here, again and again.
  for (let at = 0; at < length; at += CHUNK_BYTES) {
    plaintext.set(decipher.update(blob.subarray(SEAL_OVERHEAD + at, SEAL_OVERHEAD + at + CHUNK_BYTES)), at);
  }
  try {
    // GCM gives everything out in `update`; `final` only checks, and until it has nothing may be used.
    decipher.final();
    return plaintext;
  } catch (cause) {
    throw new VerificationError('sealed', 'sealed bytes do not open: wrong key, or altered', {}, cause);
  }
}
