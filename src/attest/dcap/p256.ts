// ECDSA over P-256 with SHA-256, the only signature in Intel's chains and quotes. Zone: owner (verifier). FIPS 186-5.
// Keys are raw points; node:crypto checks that a point lies on the curve and that a DER signature is strict DER.
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { concatBytes } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';

/** SubjectPublicKeyInfo of an uncompressed P-256 point, up to and with the byte 04. */
export const SPKI_PREFIX: Uint8Array = Uint8Array.from(
  Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'),
);

function publicKey(point: Uint8Array): KeyObject {
  try {
    const key = Buffer.from(concatBytes(SPKI_PREFIX, point));
    return createPublicKey({ key, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new VerificationError('public-key', 'a public key is not a point of the curve P-256', {}, cause);
  }
}

/** `point` is x‖y, 64 bytes. `encoding` is `der` in certificates and `ieee-p1363` (r‖s) in quotes and collateral. */
export function verifyP256(
  point: Uint8Array,
  data: Uint8Array,
  signature: Uint8Array,
  encoding: 'der' | 'ieee-p1363',
): boolean {
  return verify('sha256', data, { key: publicKey(point), dsaEncoding: encoding }, signature);
}
