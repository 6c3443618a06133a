// The owner's secrets of one bundle: signing key, bundle key, lock seed, in one file that only its owner can read. Zone: owner.
// The public half goes to the edge, which pins it. Losing the file means no new licences for the bundle.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { decodeBase64url, encodeBase64url } from '../trusted/wire/base64url.js';
import { DistillockError, EnvironmentError, MalformedError } from '../trusted/wire/errors.js';
import { keyId } from '../trusted/wire/jws.js';

export interface OwnerKeys {
  /** Raw Ed25519 key pair, 32 bytes each. */
  readonly signingSecret: Uint8Array;
  readonly signingKey: Uint8Array;
  /** AES-256 key of enclave.sealed. */
  readonly bundleKey: Uint8Array;
  readonly lockSeed: Uint8Array;
}

const key = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'expected 32 bytes in base64url');
const publicJwk = z.strictObject({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: key,
  kid: z.string().optional(),
});
const secretsFile = z.strictObject({
  format: z.literal('distillock owner secrets v1'),
  signingKey: publicJwk.extend({ d: key }),
  bundleKey: key,
  lockSeed: key,
});

/** New random keys; `lockSeed` (32 bytes) may be given to repeat a lock. */
export function createOwnerKeys(options: { readonly lockSeed?: Uint8Array } = {}): OwnerKeys {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  const lockSeed = options.lockSeed ?? new Uint8Array(randomBytes(32));
  if (lockSeed.length !== 32)
    throw new MalformedError('lock-seed', 'a lock seed has 32 bytes', { bytes: lockSeed.length });
  return {
    signingSecret: decodeBase64url(jwk.d!),
    signingKey: decodeBase64url(jwk.x!),
    bundleKey: new Uint8Array(randomBytes(32)),
    lockSeed: new Uint8Array(lockSeed),
  };
}

function toJwk(signingKey: Uint8Array): Record<string, string> {
  return { kty: 'OKP', crv: 'Ed25519', x: encodeBase64url(signingKey), kid: keyId(signingKey) };
}

async function writeNew(path: string, record: unknown, mode: number): Promise<void> {
  try {
    await writeFile(path, `${JSON.stringify(record, null, 2)}\n`, { mode, flag: 'wx' });
  } catch (cause) {
    throw new EnvironmentError(
      'key-file',
      `cannot create key file ${path}; an existing one is never overwritten`,
      { path },
      cause,
    );
  }
}

/** Writes mode 0600. Throws EnvironmentError('key-file') when the file exists: overwriting keys loses a bundle. */
export async function saveOwnerKeys(path: string, keys: OwnerKeys): Promise<void> {
  const signingKey = { ...toJwk(keys.signingKey), d: encodeBase64url(keys.signingSecret) };
  const bundleKey = encodeBase64url(keys.bundleKey);
  const lockSeed = encodeBase64url(keys.lockSeed);
  await writeNew(path, { format: 'distillock owner secrets v1', signingKey, bundleKey, lockSeed }, 0o600);
}

/** Writes the public key as a JWK, for the edge to pin. */
export async function saveOwnerPublicKey(path: string, keys: OwnerKeys): Promise<void> {
  await writeNew(path, toJwk(keys.signingKey), 0o644);
}

/** Throws MalformedError when the file is no owner secrets file, EnvironmentError when it cannot be read. */
export async function loadOwnerKeys(path: string): Promise<OwnerKeys> {
  try {
    const file = secretsFile.parse(JSON.parse(await readFile(path, 'utf8')));
    return {
      signingSecret: decodeBase64url(file.signingKey.d),
      signingKey: decodeBase64url(file.signingKey.x),
      bundleKey: decodeBase64url(file.bundleKey),
      lockSeed: decodeBase64url(file.lockSeed),
    };
  } catch (cause) {
    if (cause instanceof z.ZodError || cause instanceof SyntaxError || cause instanceof DistillockError) {
      // The cause may quote the file, and the file is secret.
      throw new MalformedError('key-file', `${path} is no owner secrets file`, { path });
    }
    throw new EnvironmentError('key-file', `cannot read owner secrets ${path}`, { path }, cause);
  }
}
