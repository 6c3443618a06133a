// AES-256-GCM as one blob: nonce (12), tag (16), ciphertext. Zone: trusted. Used for enclave.sealed and the sealed state.
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { concatBytes } from './bytes.js';
import { VerificationError } from './errors.js';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** A blob is this much longer than its plaintext. */
export const SEAL_OVERHEAD: number = NONCE_BYTES + TAG_BYTES;

/** The caller guarantees that `nonce` (12 bytes) is used once per key and plaintext. */
export function sealBytes(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  const ciphertext = concatBytes(cipher.update(plaintext), cipher.final());
  return concatBytes(nonce, cipher.getAuthTag(), ciphertext);
}

/** Throws VerificationError('sealed') when the key is another one or any bit of blob or `aad` differs. */
export function openBytes(key: Uint8Array, aad: Uint8Array, blob: Uint8Array): Uint8Array {
  if (blob.length < NONCE_BYTES + TAG_BYTES) throw new VerificationError('sealed', 'sealed bytes are too short');
  const nonce = blob.subarray(0, NONCE_BYTES);
  const tag = blob.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(aad).setAuthTag(tag);
  const plaintext = decipher.update(blob.subarray(NONCE_BYTES + TAG_BYTES));
  try {
    // GCM gives everything out in `update`; `final` only checks, and until it has nothing may be used.
    const rest = decipher.final();
    return rest.length === 0 ? plaintext : concatBytes(plaintext, rest);
  } catch (cause) {
    throw new VerificationError('sealed', 'sealed bytes do not open: wrong key, or altered', {}, cause);
  }
}
