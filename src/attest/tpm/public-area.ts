// Public areas of TPM keys (TPM2B_PUBLIC) and their names. Zone: owner (verifier). TPM 2.0 Library, part 2, TPMT_PUBLIC.
// Attestation keys: ECDSA P-256 with SHA-256. Endorsement keys: RSA 2048 and P-256 of the TCG EK profile (AES-128-CFB, SHA-256).
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { encodeBase64url } from '../../trusted/wire/base64url.js';
import { concatBytes } from '../../trusted/wire/bytes.js';
import { MalformedError, UnsupportedError, VerificationError } from '../../trusted/wire/errors.js';
import { padLeft, TPM, TpmReader } from './byte-reader.js';

export interface PublicArea {
  readonly type: 'rsa' | 'ecc';
  /** TPMA_OBJECT */
  readonly attributes: number;
  /** Digest of the policy that may use the key; empty when only its own authorisation may. */
  readonly policy: Uint8Array;
  readonly publicKey: KeyObject;
  /** Algorithm id and SHA-256 of the area, 34 bytes. */
  readonly name: Uint8Array;
  /** x of a P-256 key, 32 bytes. */
  readonly x: Uint8Array | null;
}

const ATTRIBUTE = {
  fixedTpm: 1 << 1,
  fixedParent: 1 << 4,
  dataOrigin: 1 << 5,
  adminWithPolicy: 1 << 7,
  restricted: 1 << 16,
  decrypt: 1 << 17,
  sign: 1 << 18,
};
/** All bits that the library defines; the others must be zero. */
const DEFINED = 0x000f_0cf6;

interface Shape {
  readonly where: string;
  /** TPMT_SYM_DEF_OBJECT and the scheme that the key must have. */
  readonly storage: boolean;
}

function parse(bytes: Uint8Array, { where, storage }: Shape): PublicArea {
  const outer = new TpmReader(bytes, where);
  const area = outer.sized(1, 1024);
  outer.end();
  const reader = new TpmReader(area, where);
  const type = reader.u16();
  if (type !== TPM.rsa && type !== TPM.ecc) throw unsupported(where, `key type 0x${type.toString(16)}`);
  if (reader.u16() !== TPM.sha256) throw unsupported(where, 'a name algorithm other than SHA-256');
  const attributes = reader.u32();
  if ((attributes & ~DEFINED) !== 0) throw reader.fail('reserved attributes are set');
  const policy = reader.sized(0, 64);
  if (storage) {
    reader.expect16(TPM.aes, 'symmetric algorithm');
    reader.expect16(128, 'symmetric key size');
    reader.expect16(TPM.cfb, 'symmetric mode');
    reader.expect16(TPM.null, 'scheme');
  } else {
    reader.expect16(TPM.null, 'symmetric algorithm');
    reader.expect16(TPM.ecdsa, 'scheme');
    reader.expect16(TPM.sha256, 'scheme hash');
  }
  const name = concatBytes(Uint8Array.of(0, TPM.sha256), createHash('sha256').update(area).digest());
  if (type === TPM.rsa) {
    reader.expect16(2048, 'key size');
    const exponent = reader.u32();
    if (exponent !== 0 && exponent !== 65537) throw unsupported(where, 'an RSA exponent other than 65537');
    const n = reader.sized(256, 256);
    reader.end();
    const publicKey = imported({ kty: 'RSA', n: encodeBase64url(n), e: 'AQAB' }, where);
    return { type: 'rsa', attributes, policy, publicKey, name, x: null };
  }
  if (reader.u16() !== TPM.p256) throw unsupported(where, 'a curve other than P-256');
  reader.expect16(TPM.null, 'key derivation');
  const x = padLeft(reader.sized(1, 32), 32);
  const y = padLeft(reader.sized(1, 32), 32);
  reader.end();
  const publicKey = imported({ kty: 'EC', crv: 'P-256', x: encodeBase64url(x), y: encodeBase64url(y) }, where);
  return { type: 'ecc', attributes, policy, publicKey, name, x };
}

function unsupported(where: string, what: string): UnsupportedError {
  return new UnsupportedError('tpm-key', `${where}: ${what} is not supported`, { where });
}

/** Throws MalformedError for a point that is not on the curve. */
function imported(key: Record<string, string>, where: string): KeyObject {
  try {
    return createPublicKey({ key, format: 'jwk' });
  } catch (cause) {
    throw new MalformedError('tpm', `${where}: is not a valid public key`, {}, cause);
  }
}

function demand(area: PublicArea, set: number, clear: number, where: string, what: string): void {
  const common = ATTRIBUTE.fixedTpm | ATTRIBUTE.fixedParent | ATTRIBUTE.dataOrigin | ATTRIBUTE.restricted | set;
  if ((area.attributes & common) !== common || (area.attributes & clear) !== 0) {
    throw new VerificationError(
      'tpm-key-attributes',
      `${where}: must be a ${what} key that was made in the TPM and cannot leave it`,
      {
        attributes: area.attributes,
      },
    );
  }
}

/**
 * TPM2B_PUBLIC of an attestation key. Throws VerificationError('tpm-key-attributes') unless it is restricted (signs only what the
 * TPM itself made), for signing only, and fixed to the TPM that made it; 'tpm-key-policy' when it may be used by a policy: activation
 * must need the key's own authorisation, which a TPM has only for keys whose private part it holds.
 */
export function parseAttestationKey(bytes: Uint8Array): PublicArea {
  const where = 'TPM attestation key';
  const area = parse(bytes, { where, storage: false });
  if (area.type !== 'ecc') throw unsupported(where, 'an RSA attestation key');
  demand(area, ATTRIBUTE.sign, ATTRIBUTE.decrypt, where, 'restricted signing');
  if (area.policy.length > 0 || (area.attributes & ATTRIBUTE.adminWithPolicy) !== 0) {
    throw new VerificationError('tpm-key-policy', `${where}: must not be usable by a policy`);
  }
  return area;
}

/** TPM2B_PUBLIC of an endorsement key: restricted, for decryption only, fixed to its TPM. */
export function parseEndorsementKey(bytes: Uint8Array): PublicArea {
  const where = 'TPM endorsement key';
  const area = parse(bytes, { where, storage: true });
  demand(area, ATTRIBUTE.decrypt, ATTRIBUTE.sign, where, 'restricted decryption');
  return area;
}
