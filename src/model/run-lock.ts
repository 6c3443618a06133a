// One run per folder: a second one is refused, a crashed one does not block the next.
// Zone: edge and owner. proper-lockfile keeps the lock; a note of who holds it tells a dead owner from a busy one at once.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { lock } from 'proper-lockfile';
import { EnvironmentError } from '../trusted/wire/errors.js';
import { describeFileError } from './files.js';

interface Holder {
  readonly pid: number;
  readonly host: string;
}

/** Without a note the lock counts as abandoned when it was not refreshed for this long. */
const STALE_MS = 60_000;

/** Takes the folder, making it; call the result to give it back. Throws EnvironmentError (`run-locked`) naming the holder. */
export async function lockRunFolder(folder: string): Promise<() => Promise<void>> {
  const lockFile = join(folder, '.run.lock');
  const note = join(folder, '.run.json');
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw describeFileError(error, folder, 'write');
  }
  const take = (): Promise<() => Promise<void>> =>
    lock(folder, {
      lockfilePath: lockFile,
      stale: STALE_MS,
      update: STALE_MS / 6,
      realpath: false,
      onCompromised: () => {},
    });
  let release: () => Promise<void>;
  try {
    release = await take().catch(async (error: unknown) => {
      const holder = await readHolder(note);
      if (!isLocked(error) || holder === null || holder.host !== hostname() || isAlive(holder.pid)) throw error;
      await rm(lockFile, { recursive: true, force: true });
      return take();
    });
  } catch (error) {
    if (!isLocked(error)) throw describeFileError(error, lockFile, 'write');
    const holder = await readHolder(note);
    const who = holder === null ? 'another run' : `process ${holder.pid} on ${holder.host}`;
    const message = `${folder} is in use by ${who}; wait for it, or choose another output folder`;
    throw new EnvironmentError('run-locked', message, { folder, ...(holder ?? {}) }, error);
  }
  const self: Holder = { pid: process.pid, host: hostname() };
  await writeFile(note, JSON.stringify(self));
  return async () => {
    await rm(note, { force: true });
    await release();
  };
}

function isLocked(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ELOCKED';
}

async function readHolder(note: string): Promise<Holder | null> {
  try {
    const { pid, host } = JSON.parse(await readFile(note, 'utf8')) as Partial<Holder>;
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host } : null;
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
