// Signatures of TPM quotes: TPMT_SIGNATURE as the TPM gives it, or DER (tpm2_quote -f plain). Zone: owner (verifier).
// ECDSA on P-256 with SHA-256; the result is r‖s. TPM 2.0 Library, part 2, TPMT_SIGNATURE; RFC 3279.
import { concatBytes } from '../../trusted/wire/bytes.js';
import { DerReader, malformedDer, TAG } from '../x509/der.js';
import { padLeft, TPM, TpmReader } from './byte-reader.js';

const DER_SEQUENCE = 0x30;

/** r‖s, 64 bytes. Throws MalformedError. */
export function parseTpmSignature(bytes: Uint8Array): Uint8Array {
  if (bytes[0] === DER_SEQUENCE) return parseDer(bytes);
  const reader = new TpmReader(bytes, 'TPM signature');
  reader.expect16(TPM.ecdsa, 'algorithm');
  reader.expect16(TPM.sha256, 'hash');
  const r = padLeft(reader.sized(1, 32), 32);
  const s = padLeft(reader.sized(1, 32), 32);
  reader.end();
  return concatBytes(r, s);
}

function parseDer(bytes: Uint8Array): Uint8Array {
  const where = 'TPM signature';
  const outer = new DerReader(bytes, where);
  const pair = outer.enter();
  outer.end();
  const number = (): Uint8Array => {
    const { content } = pair.take(TAG.integer);
    const [first, second] = content;
    const padded = first === 0 && content.length > 1;
    if (first === undefined || first >= 0x80 || (padded && second! < 0x80) || content.length > (padded ? 33 : 32)) {
      throw malformedDer('has a number that P-256 does not allow', where);
    }
    return padLeft(padded ? content.subarray(1) : content, 32);
  };
  const [r, s] = [number(), number()];
  pair.end();
  return concatBytes(r, s);
}
