// Which weights of an unfinished bundle are safe on disk, and what the lock was made from, so that only the same lock goes on. Zone: owner.
// One JSON line each, the facts first. A weight is noted after its bytes were synced; a torn last line is as if it were not there.
import { type FileHandle, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EnvironmentError } from '../trusted/wire/errors.js';

/** What must be the same for a lock to go on: name as the owner knows it → value or digest, nothing secret. */
export type LockFacts = Readonly<Record<string, string>>;

export interface LockJournal {
  has(item: string): boolean;
  /** Durable when it returns. */
  add(items: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** Begins with a dot, as everything in the folder that is not part of the bundle. */
const fileName = '.journal';
const format = 'distillock lock journal v1';

interface Entries {
  readonly facts: LockFacts;
  readonly items: readonly string[];
  /** Bytes of whole lines. */
  readonly length: number;
}

/** null: there is no journal, or its first line was never whole. */
async function readEntries(path: string): Promise<Entries | null> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  try {
    const [first, ...others] = whole
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
    if (first?.format !== format) return null;
    return { facts: first.facts, items: others.map(({ done }) => done), length: Buffer.byteLength(whole) };
  } catch {
    return null;
  }
}

function refuseOther(folder: string, before: LockFacts, now: LockFacts): void {
  const changed = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter(
    (name) => before[name] !== now[name],
  );
  if (changed.length === 0) return;
  const message = `${folder} is an unfinished lock with another ${changed.join(' and another ')}: repeat that lock to finish it, or delete the folder to start over`;
  throw new EnvironmentError('lock-unfinished', message, { path: folder, changed: changed.join(',') });
}

/**
 * Opens the journal of a folder. Without one the folder is emptied, dot files apart, and a journal is begun.
 * Throws EnvironmentError('lock-unfinished') naming the facts that differ.
 */
export async function openJournal(folder: string, facts: LockFacts): Promise<LockJournal> {
  const path = join(folder, fileName);
  const found = await readEntries(path);
  if (found) refuseOther(folder, found.facts, facts);
  else {
    const left = (await readdir(folder)).filter((name) => name === fileName || !name.startsWith('.'));
    for (const name of left) await rm(join(folder, name), { recursive: true });
  }
  const handle = await open(path, found ? 'r+' : 'wx');
  const done = new Set(found?.items);
  let end = found?.length ?? 0;
  try {
    await handle.truncate(end);
    if (!found) end = await append(handle, end, [{ format, facts }]);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return {
    has: (item) => done.has(item),
    async add(items) {
      end = await append(
        handle,
        end,
        items.map((item) => ({ done: item })),
      );
      for (const item of items) done.add(item);
    },
    close: () => handle.close(),
  };
}

async function append(handle: FileHandle, end: number, records: readonly object[]): Promise<number> {
  const bytes = Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  for (let done = 0; done < bytes.length; )
    done += (await handle.write(bytes, done, bytes.length - done, end + done)).bytesWritten;
  await handle.datasync();
  return end + bytes.length;
}

/** Takes the journal out of a bundle that is whole. */
export async function removeJournal(folder: string): Promise<void> {
  await rm(join(folder, fileName), { force: true });
}
