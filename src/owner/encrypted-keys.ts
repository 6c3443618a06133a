// Owner secrets under a passphrase: scrypt (RFC 7914) makes the key, AES-256-GCM seals the file's content. Zone: owner.
// The costs travel with the file so that they can grow; a file that asks for less than the least is refused.
import { randomBytes, scrypt } from 'node:crypto';
import { z } from 'zod';
import { openBytes, sealBytes } from '../trusted/wire/aead.js';
import { decodeBase64url, encodeBase64url } from '../trusted/wire/base64url.js';
import { encodeUtf8 } from '../trusted/wire/bytes.js';
import { encodeCanonicalJson } from '../trusted/wire/canonical-json.js';
import { MalformedError, VerificationError } from '../trusted/wire/errors.js';

export const ENCRYPTED_FORMAT = 'distillock owner secrets v1, encrypted';
/** 128 MB and about half a second: a guess costs as much. */
const COST = { n: 2 ** 17, r: 8, p: 1 } as const;
const MOST_N = 2 ** 20;
/** Passphrases shorter than this are refused when a file is written. */
export const SHORTEST_PASSPHRASE = 12;

const base64url = z.string().regex(/^[A-Za-z0-9_-]+$/);
export const encryptedFile: z.ZodType<EncryptedSecrets> = z.strictObject({
  format: z.literal(ENCRYPTED_FORMAT),
  kdf: z.strictObject({
    name: z.literal('scrypt'),
    n: z.int().min(COST.n).max(MOST_N),
    r: z.literal(COST.r),
    p: z.literal(COST.p),
    salt: base64url.length(22),
  }),
  /** base64url of nonce, tag and ciphertext. */
  sealed: base64url.max(4096),
});

export interface EncryptedSecrets {
  readonly format: typeof ENCRYPTED_FORMAT;
  readonly kdf: {
    readonly name: 'scrypt';
    readonly n: number;
    readonly r: 8;
    readonly p: 1;
    readonly salt: string;
  };
  readonly sealed: string;
}

function keyOf(passphrase: string, { n, r, p, salt }: EncryptedSecrets['kdf']): Promise<Uint8Array> {
  const options = { N: n, r, p, maxmem: 128 * n * r + (1 << 22) };
  return new Promise((resolve, reject) => {
    // One passphrase typed on two systems may be composed in two ways.
    scrypt(encodeUtf8(passphrase.normalize('NFKC')), decodeBase64url(salt), 32, options, (error, key) => {
      if (error === null) resolve(new Uint8Array(key));
      else reject(error);
    });
  });
}

/** Throws MalformedError('passphrase') when it is too short. */
export async function encryptSecrets(secrets: string, passphrase: string): Promise<EncryptedSecrets> {
  if (passphrase.length < SHORTEST_PASSPHRASE) {
    throw new MalformedError(
      'passphrase',
      `the passphrase is too short; give at least ${SHORTEST_PASSPHRASE} characters`,
    );
  }
  const format = ENCRYPTED_FORMAT;
  const kdf = { name: 'scrypt', ...COST, salt: encodeBase64url(randomBytes(16)) } as const;
  const key = await keyOf(passphrase, kdf);
  const sealed = sealBytes(key, randomBytes(12), encodeCanonicalJson({ format, kdf }), encodeUtf8(secrets));
  key.fill(0);
  return { format, kdf, sealed: encodeBase64url(sealed) };
}

/** Throws VerificationError('passphrase-wrong'); an altered file looks the same. */
export async function decryptSecrets({ format, kdf, sealed }: EncryptedSecrets, passphrase: string): Promise<string> {
  const key = await keyOf(passphrase, kdf);
  try {
    return Buffer.from(openBytes(key, encodeCanonicalJson({ format, kdf }), decodeBase64url(sealed))).toString('utf8');
  } catch {
    throw new VerificationError(
      'passphrase-wrong',
      'the passphrase does not open the key file (or the file was altered)',
    );
  } finally {
    key.fill(0);
  }
}
