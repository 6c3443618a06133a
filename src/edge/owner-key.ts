// The owner's public key file: what the edge pins before it believes any bundle. Zone: edge.
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../model/files.js';
import { decodeBase64url, encodeBase64url } from '../trusted/wire/base64url.js';
import { equalBytes } from '../trusted/wire/bytes.js';
import { EnvironmentError, MalformedError, PolicyError } from '../trusted/wire/errors.js';

/** The pinned key's file in the state folder. */
export const OWNER_KEY_FILE = 'owner.pub';

/** Raw Ed25519 public key, 32 bytes. Throws MalformedError when the file is no Ed25519 JWK, EnvironmentError when unreadable. */
export async function loadOwnerPublicKey(path: string): Promise<Uint8Array> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new EnvironmentError('owner-key', `cannot read the owner's public key ${path}`, { path }, cause);
  }
  try {
    const jwk = JSON.parse(text) as { kty?: unknown; crv?: unknown; x?: unknown };
    if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519' && typeof jwk.x === 'string' && jwk.x.length === 43) {
      return decodeBase64url(jwk.x);
    }
  } catch {
    // Reported below, with the file's name.
  }
  throw new MalformedError('owner-key', `${path} holds no Ed25519 public key (JWK)`, { path });
}

/**
 * The key that a bundle's owner must have: the file `given`, else the one that `distillock enclave` pinned in the state folder.
 * Throws PolicyError when there is neither ('owner-key-missing') or when they differ ('owner-key-changed').
 */
export async function pinnedOwnerKey(stateFolder: string, given: string | null): Promise<Uint8Array> {
  const file = join(stateFolder, OWNER_KEY_FILE);
  const pinned = existsSync(file) ? await loadOwnerPublicKey(file) : null;
  if (given === null) {
    if (pinned !== null) return pinned;
    const message =
      "no owner's key is known for this bundle yet; give it once with --owner_key (distillock enclave keeps it)";
    throw new PolicyError('owner-key-missing', message, { file });
  }
  const key = await loadOwnerPublicKey(given);
  if (pinned === null || equalBytes(key, pinned)) return key;
  const message = `${given} is not the owner's key that was pinned for this bundle (${file}); ask the owner which one is right`;
  throw new PolicyError('owner-key-changed', message, { given, file });
}

/** Keeps the owner's key beside the enclave's state, for the verbs that come later. */
export async function pinOwnerKey(stateFolder: string, key: Uint8Array): Promise<void> {
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: encodeBase64url(key) };
  await mkdir(stateFolder, { recursive: true, mode: 0o700 });
  await writeFileAtomic(join(stateFolder, OWNER_KEY_FILE), `${JSON.stringify(jwk)}\n`);
}
