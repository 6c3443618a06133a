// Whether a file of owner secrets is the one a bundle was locked with: the signature tells the owner, the sealed part the lock. Zone: owner.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openPart } from '../trusted/lock/sealed-part.js';
import { equalBytes } from '../trusted/wire/bytes.js';
import { MalformedError, VerificationError } from '../trusted/wire/errors.js';
import { type Manifest, SEALED_PART } from '../trusted/wire/manifest.js';
import type { OwnerKeys } from './owner-keys.js';

/** Throws MalformedError('lock-keys') when bundle key or lock seed are another lock's. */
export async function checkKeysOfBundle(
  dir: string,
  { scheme, model }: Manifest,
  keys: OwnerKeys,
  keyFile: string,
): Promise<void> {
  const sealed = await readFile(join(dir, SEALED_PART));
  let same = false;
  try {
    same = equalBytes(openPart(sealed, keys.bundleKey, scheme, model).lockSeed, keys.lockSeed);
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
  }
  if (same) return;
  const message = `${keyFile} holds the secrets of another lock than ${dir}; give the --keys that the bundle was locked with`;
  throw new MalformedError('lock-keys', message, { file: keyFile, bundle: dir });
}
