// Writes a bundle's folder: beside its place under a hidden name, signed last, renamed when whole. Zone: owner. DESIGN section 5.
// What a kill, Ctrl-C or a full disk leaves there goes on with the same lock; other failures leave nothing. An existing bundle is
// never overwritten.
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { digestFile } from '../model/file-digest.js';
import { lockRunFolder } from '../model/run-lock.js';
import { DistillockError, EnvironmentError } from '../trusted/wire/errors.js';
import { type BundleFile, bundleId, type Manifest } from '../trusted/wire/manifest.js';
import { encodeManifest } from './encode-manifest.js';
import { type LockFacts, type LockJournal, openJournal, removeJournal } from './lock-journal.js';
import type { OwnerKeys } from './owner-keys.js';
import { signDetached } from './sign.js';

/** Everything in the manifest but the list of files, which the writer makes from what lies in the folder. */
export type ManifestDraft = Omit<Manifest, 'files'>;

export interface BundleJob {
  readonly outDir: string;
  readonly keys: OwnerKeys;
  readonly facts: LockFacts;
  /** False when nobody could repeat this lock: then nothing is kept of one that fails. */
  readonly resumable: boolean;
  /** Fills the folder, leaving alone what the journal has. Calls come again with the same folder when a lock goes on. */
  readonly fill: (folder: string, journal: LockJournal) => Promise<ManifestDraft>;
  /** Bytes of the finished files that were hashed so far. */
  readonly onHashed?: (bytes: number) => void;
}

function refuseExisting(outDir: string): void {
  if (!existsSync(outDir)) return;
  throw new EnvironmentError('bundle-exists', `${outDir} exists; a bundle is never overwritten, choose another path`, {
    path: outDir,
  });
}

function systemError(error: unknown): string | null {
  if (error instanceof DistillockError || !(error instanceof Error) || !('code' in error)) return null;
  return String(error.code);
}

function isFull(error: unknown): boolean {
  const code = systemError(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** Whether the same lock can succeed later from where it stopped. */
function isWorthKeeping(error: unknown): boolean {
  return isFull(error) || (error instanceof DistillockError && ['interrupted', 'lock-unfinished'].includes(error.code));
}

function asEnvironmentError(error: unknown, outDir: string, kept: string | null): unknown {
  const code = systemError(error);
  if (code === null) return error;
  const full = isFull(error);
  const reason = full ? 'the disk is full' : `the system said ${code}`;
  const left = kept
    ? `what is done is kept in ${kept}: free some space and repeat the command to go on, or delete it`
    : 'nothing was left behind';
  const message = `the bundle ${outDir} could not be written: ${reason}; ${left}`;
  return new EnvironmentError(full ? 'disk-full' : 'bundle-write', message, { path: outDir }, error);
}

async function listFiles(folder: string, onHashed: (bytes: number) => void): Promise<BundleFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const files: BundleFile[] = [];
  let before = 0;
  for (const path of paths.sort()) {
    const name = path.slice(folder.length + 1).replaceAll('\\', '/');
    if (name.startsWith('.') || name.startsWith('manifest.')) continue;
    const digest = await digestFile(path, (bytes) => onHashed(before + bytes));
    before += digest.size;
    files.push({ path: name, ...digest });
  }
  return files;
}

async function writeSynced(path: string, bytes: Uint8Array | string): Promise<void> {
  await writeFile(path, bytes, { flush: true });
}

/**
 * Calls `fill` with the unfinished folder, adds manifest.json and manifest.jws to what it wrote, and puts the folder in place.
 * Returns the bundle's id. Throws EnvironmentError ('bundle-exists', 'disk-full', 'bundle-write', 'run-locked', 'lock-unfinished').
 */
export async function writeBundle({ outDir, keys, facts, resumable, fill, onHashed }: BundleJob): Promise<string> {
  const target = resolve(outDir);
  refuseExisting(target);
  const folder = join(dirname(target), `.${basename(target)}.partial`);
  let release = async (): Promise<void> => undefined;
  let journal: LockJournal | null = null;
  try {
    await mkdir(folder, { recursive: true });
    release = await lockRunFolder(folder);
  } catch (error) {
    throw asEnvironmentError(error, outDir, null);
  }
  try {
    journal = await openJournal(folder, facts);
    const draft = await fill(folder, journal);
    const manifest = encodeManifest({ ...draft, files: await listFiles(folder, onHashed ?? (() => undefined)) });
    await writeSynced(join(folder, 'manifest.json'), manifest);
    await writeSynced(join(folder, 'manifest.jws'), `${await signDetached('manifest', manifest, keys)}\n`);
    refuseExisting(target);
    await journal.close();
    await removeJournal(folder);
    await release();
    await rename(folder, target);
    const parent = await open(dirname(target), 'r');
    await parent.sync().catch(() => undefined);
    await parent.close();
    return bundleId(manifest);
  } catch (error) {
    await journal?.close().catch(() => undefined);
    await release().catch(() => undefined);
    const kept = isWorthKeeping(error) && (resumable || journal === null);
    if (!kept) await rm(folder, { recursive: true, force: true }).catch(() => undefined);
    throw asEnvironmentError(error, outDir, kept ? folder : null);
  }
}
