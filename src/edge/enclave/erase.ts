// What `destroy` leaves behind: the enclave's receipt, and nothing that could unlock the teacher here again. Zone: edge. DESIGN section 7.
// Files are removed, not shredded: a flash disk or a snapshot may hold old blocks, and a backup made before holds everything.
import { readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { segmentFiles } from '../../model/bundle-manifest.js';
import { describeFileError, writeFileAtomic } from '../../model/files.js';
import { type Manifest, SEALED_PART } from '../../trusted/wire/manifest.js';
import { OWNER_KEY_FILE } from '../owner-key.js';

/** Beside the state folder: its presence is what makes a destroyed enclave stay so for every verb. */
function receiptFileOf(stateDir: string): string {
  return `${stateDir}.receipt.jws`;
}

/** The receipt (a compact JWS) of an enclave that was destroyed; null while it was not. */
export async function keptReceipt(stateDir: string): Promise<Uint8Array | null> {
  const file = receiptFileOf(stateDir);
  try {
    const text = await readFile(file, 'utf8');
    return new TextEncoder().encode(text.trim());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw describeFileError(error, file, 'read');
  }
}

export async function keepReceipt(stateDir: string, receipt: Uint8Array): Promise<void> {
  await writeFileAtomic(receiptFileOf(stateDir), receipt, '\n');
}

/** Removes sealed state and platform keys: all of the state folder but the owner's public key. The enclave must have ended. */
export async function eraseState(stateDir: string): Promise<void> {
  const names = await readdir(stateDir).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return [];
    throw describeFileError(error, stateDir, 'write');
  });
  await removeFiles(
    stateDir,
    names.filter((name) => name !== OWNER_KEY_FILE),
  );
}

/** Removes what only the enclave could read: `enclave.sealed` and the sealed segments. Gives the paths, relative to the bundle. */
export async function eraseSealedPart(bundleDir: string, { segments }: Manifest): Promise<readonly string[]> {
  const inside = segments.filter(({ place }) => place === 'enclave').flatMap(segmentFiles);
  const paths = [SEALED_PART, ...inside];
  await removeFiles(bundleDir, paths);
  return paths;
}

/** The files that belong to the bundle; anything else in the folder stays, and then the folder does. */
export async function deleteBundle(bundleDir: string, manifest: Manifest): Promise<void> {
  await removeFiles(bundleDir, [...manifest.files.map(({ path }) => path), 'manifest.jws', 'manifest.json']);
  for (const folder of [join(bundleDir, 'segments'), bundleDir]) await rmdir(folder).catch(() => undefined);
}

async function removeFiles(folder: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await rm(join(folder, path), { force: true, recursive: true }).catch((error: unknown) => {
      throw describeFileError(error, join(folder, path), 'write');
    });
  }
}
