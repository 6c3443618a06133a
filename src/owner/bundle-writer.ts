// Writes a bundle's folder: under a temporary name beside its place, signed last, renamed when whole. Zone: owner. DESIGN section 5.
// A failure leaves nothing behind, and an existing bundle is never overwritten.
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { digestFile } from '../model/file-digest.js';
import { DistillockError, EnvironmentError } from '../trusted/wire/errors.js';
import { type BundleFile, bundleId, encodeManifest, type Manifest } from '../trusted/wire/manifest.js';
import type { OwnerKeys } from './owner-keys.js';
import { signDetached } from './sign.js';

/** Everything in the manifest but the list of files, which the writer makes from what lies in the folder. */
export type ManifestDraft = Omit<Manifest, 'files'>;

function refuseExisting(outDir: string): void {
  if (!existsSync(outDir)) return;
  throw new EnvironmentError('bundle-exists', `${outDir} exists; a bundle is never overwritten, choose another path`, {
    path: outDir,
  });
}

function asEnvironmentError(error: unknown, outDir: string): unknown {
  if (error instanceof DistillockError || !(error instanceof Error) || !('code' in error)) return error;
  const full = error.code === 'ENOSPC' || error.code === 'EDQUOT';
  const advice = full ? 'the disk is full' : `the system said ${String(error.code)}`;
  const message = `the bundle ${outDir} could not be written: ${advice}; nothing was left behind`;
  return new EnvironmentError(full ? 'disk-full' : 'bundle-write', message, { path: outDir }, error);
}

async function listFiles(folder: string): Promise<BundleFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const files: BundleFile[] = [];
  for (const path of paths.sort()) {
    files.push({ path: path.slice(folder.length + 1).replaceAll('\\', '/'), ...(await digestFile(path)) });
  }
  return files;
}

async function writeSynced(path: string, bytes: Uint8Array | string): Promise<void> {
  await writeFile(path, bytes, { flush: true });
}

/**
 * Calls `fill` with an empty folder, adds manifest.json and manifest.jws to what it wrote, and puts the folder in place.
 * Returns the bundle's id. Throws EnvironmentError ('bundle-exists', 'disk-full', 'bundle-write').
 */
export async function writeBundle(
  outDir: string,
  keys: OwnerKeys,
  fill: (folder: string) => Promise<ManifestDraft>,
): Promise<string> {
  const target = resolve(outDir);
  refuseExisting(target);
  const folder = join(dirname(target), `.${basename(target)}.${randomUUID()}.tmp`);
  try {
    await mkdir(folder, { recursive: true });
    const draft = await fill(folder);
    const manifest = encodeManifest({ ...draft, files: await listFiles(folder) });
    await writeSynced(join(folder, 'manifest.json'), manifest);
    await writeSynced(join(folder, 'manifest.jws'), `${await signDetached('manifest', manifest, keys)}\n`);
    refuseExisting(target);
    await rename(folder, target);
    const parent = await open(dirname(target), 'r');
    await parent.sync().catch(() => undefined);
    await parent.close();
    return bundleId(manifest);
  } catch (error) {
    await rm(folder, { recursive: true, force: true }).catch(() => undefined);
    throw asEnvironmentError(error, outDir);
  }
}
