// TPM2_MakeCredential in software: a secret that only the TPM with this endorsement key can open, and only while it holds
// the named key. Zone: owner (verifier). TPM 2.0 Library, part 1: credential protection (section 24), KDFa, KDFe, annexes B.10 and C.6.
import { constants, createCipheriv, createECDH, createHash, createHmac, publicEncrypt, randomBytes } from 'node:crypto';
import { decodeBase64url } from '../../trusted/wire/base64url.js';
import { concatBytes, encodeUtf8 } from '../../trusted/wire/bytes.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { PublicArea } from './public-area.js';

/** Labels carry their terminating zero. */
const IDENTITY = encodeUtf8('IDENTITY\0');
const STORAGE = encodeUtf8('STORAGE\0');
const INTEGRITY = encodeUtf8('INTEGRITY\0');
/** Longest TPM2B_DIGEST of the endorsement key's name algorithm, SHA-256. */
export const MAX_SECRET_BYTES = 32;

export interface CredentialRequest {
  readonly endorsementKey: PublicArea;
  /** Name of the attestation key, 34 bytes. */
  readonly akName: Uint8Array;
  /** At most 32 bytes; unguessable, used once. */
  readonly secret: Uint8Array;
}

export interface Credential {
  /** TPM2B_ID_OBJECT */
  readonly idObject: Uint8Array;
  /** TPM2B_ENCRYPTED_SECRET */
  readonly encryptedSecret: Uint8Array;
}

const u32 = (value: number): Uint8Array => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
const sized = (bytes: Uint8Array): Uint8Array => concatBytes(Uint8Array.of(bytes.length >>> 8, bytes.length), bytes);

/** KDFa with SHA-256, up to one block: SP 800-108 in counter mode. */
function kdfa(key: Uint8Array, label: Uint8Array, context: Uint8Array, bits: number): Uint8Array {
  const input = concatBytes(u32(1), label, context, u32(bits));
  return createHmac('sha256', key)
    .update(input)
    .digest()
    .subarray(0, bits / 8);
}

export function makeCredential({ endorsementKey, akName, secret }: CredentialRequest): Credential {
  if (secret.length === 0 || secret.length > MAX_SECRET_BYTES) {
    throw new MalformedError('tpm-secret', `the secret must have 1 to ${MAX_SECRET_BYTES} bytes`);
  }
  const { seed, encrypted } = endorsementKey.type === 'rsa' ? rsaSeed(endorsementKey) : eccSeed(endorsementKey);
  const cipher = createCipheriv('aes-128-cfb', kdfa(seed, STORAGE, akName, 128), new Uint8Array(16));
  const identity = concatBytes(cipher.update(sized(secret)), cipher.final());
  const key = kdfa(seed, INTEGRITY, new Uint8Array(0), 256);
  const integrity = createHmac('sha256', key).update(identity).update(akName).digest();
  return { idObject: sized(concatBytes(sized(integrity), identity)), encryptedSecret: sized(encrypted) };
}

interface Seed {
  readonly seed: Uint8Array;
  readonly encrypted: Uint8Array;
}

function rsaSeed({ publicKey }: PublicArea): Seed {
  const seed = randomBytes(32);
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: IDENTITY };
  return { seed, encrypted: publicEncrypt({ key: publicKey, ...oaep }, seed) };
}

/** One-pass ECDH with a fresh key; KDFe is SP 800-56A's concatenation. */
function eccSeed({ publicKey, x }: PublicArea): Seed {
  const jwk = publicKey.export({ format: 'jwk' });
  const point = concatBytes(Uint8Array.of(4), x!, decodeBase64url(jwk.y!));
  const ecdh = createECDH('prime256v1');
  const own = new Uint8Array(ecdh.generateKeys());
  const [ownX, ownY] = [own.subarray(1, 33), own.subarray(33)];
  const shared = ecdh.computeSecret(point);
  const seed = createHash('sha256')
    .update(concatBytes(u32(1), shared, IDENTITY, ownX, x!))
    .digest();
  return { seed, encrypted: concatBytes(sized(ownX), sized(ownY)) };
}

/** The file that `tpm2_activatecredential -i` reads. */
export function encodeCredential({ idObject, encryptedSecret }: Credential): Uint8Array {
  return concatBytes(u32(0xbadcc0de), u32(1), idObject, encryptedSecret);
}
