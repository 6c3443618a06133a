// The owner's secrets of one bundle: signing key, bundle key, lock seed, in one file that only its owner can read. Zone: owner.
// The public half goes to the edge, which pins it. Losing the file means no new licences for the bundle.
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { open, rename, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { decodeBase64url, encodeBase64url } from '../trusted/wire/base64url.js';
import { DistillockError, EnvironmentError, MalformedError } from '../trusted/wire/errors.js';
import { keyId } from '../trusted/wire/jws.js';
import { decryptSecrets, type EncryptedSecrets, encryptedFile, encryptSecrets } from './encrypted-keys.js';

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

async function writeNew(path: string, text: string, mode: number): Promise<void> {
  try {
    await writeFile(path, text, { mode, flag: 'wx' });
  } catch (cause) {
    throw new EnvironmentError(
      'key-file',
      `cannot create key file ${path}; an existing one is never overwritten`,
      { path },
      cause,
    );
  }
}

/** Asked only when the file is encrypted. */
export type PassphraseSource = () => Promise<string>;

function secretsText(keys: OwnerKeys): string {
  const signingKey = { ...toJwk(keys.signingKey), d: encodeBase64url(keys.signingSecret) };
  const bundleKey = encodeBase64url(keys.bundleKey);
  const lockSeed = encodeBase64url(keys.lockSeed);
  return `${JSON.stringify({ format: 'distillock owner secrets v1', signingKey, bundleKey, lockSeed }, null, 2)}\n`;
}

/** What a secrets file holds: encrypted when there is a passphrase. */
async function fileText(keys: OwnerKeys, passphrase: string | null): Promise<string> {
  const secrets = secretsText(keys);
  return passphrase === null ? secrets : `${JSON.stringify(await encryptSecrets(secrets, passphrase), null, 2)}\n`;
}

/**
 * Writes mode 0600, encrypted when `passphrase` is given.
 * Throws EnvironmentError('key-file') when the file exists: overwriting keys loses a bundle.
 */
export async function saveOwnerKeys(path: string, keys: OwnerKeys, passphrase: string | null = null): Promise<void> {
  await writeNew(path, await fileText(keys, passphrase), 0o600);
}

/** Puts the same keys under another passphrase, in place of the file; a crash leaves the old or the new one. */
export async function rewriteOwnerKeys(path: string, keys: OwnerKeys, passphrase: string): Promise<void> {
  const text = await fileText(keys, passphrase);
  const temporary = `${path}.${randomUUID()}.tmp`;
  await writeNew(temporary, text, 0o600);
  try {
    const handle = await open(temporary, 'r+');
    await handle.sync();
    await handle.close();
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new EnvironmentError('key-file', `cannot replace key file ${path}`, { path }, cause);
  }
}

/** Writes the public key as a JWK, for the edge to pin. */
export async function saveOwnerPublicKey(path: string, keys: OwnerKeys): Promise<void> {
  await writeNew(path, `${JSON.stringify(toJwk(keys.signingKey), null, 2)}\n`, 0o644);
}

/**
 * Throws MalformedError when the file is no owner secrets file, EnvironmentError when it cannot be read ('key-file'), others may
 * read it ('key-file-mode') or a passphrase is needed and there is no `passphrase` ('passphrase-missing'),
 * VerificationError('passphrase-wrong').
 */
export async function loadOwnerKeys(path: string, passphrase?: PassphraseSource): Promise<OwnerKeys> {
  const text = await readPrivate(path);
  try {
    const outer = readJson(text);
    const encrypted = encryptedFile.safeParse(outer);
    const file = secretsFile.parse(encrypted.success ? readJson(await decrypted(encrypted.data)) : outer);
    return {
      signingSecret: decodeBase64url(file.signingKey.d),
      signingKey: decodeBase64url(file.signingKey.x),
      bundleKey: decodeBase64url(file.bundleKey),
      lockSeed: decodeBase64url(file.lockSeed),
    };
  } catch (cause) {
    if (cause instanceof z.ZodError || cause instanceof SyntaxError || cause instanceof MalformedError) {
      // The cause may quote the file, and the file is secret.
      throw new MalformedError('key-file', `${path} is no owner secrets file`, { path });
    }
    throw cause;
  }

  async function decrypted(file: EncryptedSecrets): Promise<string> {
    if (passphrase === undefined) {
      throw new EnvironmentError('passphrase-missing', `${path} is encrypted and no passphrase was given`, { path });
    }
    return decryptSecrets(file, await passphrase());
  }
}

/** Whether `loadOwnerKeys` will ask for a passphrase; throws as it does when the file cannot be read. */
export async function isEncrypted(path: string): Promise<boolean> {
  try {
    return encryptedFile.safeParse(readJson(await readPrivate(path))).success;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

function readJson(text: string): unknown {
  return JSON.parse(text);
}

async function readPrivate(path: string): Promise<string> {
  try {
    const handle = await open(path, 'r');
    try {
      const { mode } = await handle.stat();
      // Windows has no such bits.
      if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
        const message = `others may read the owner secrets ${path}; run: chmod 600 ${path}`;
        throw new EnvironmentError('key-file-mode', message, { path });
      }
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (cause instanceof DistillockError) throw cause;
    throw new EnvironmentError('key-file', `cannot read owner secrets ${path}`, { path }, cause);
  }
}
