// Writing files so that a crash or a full disk loses nothing: a temporary file beside the target, fsync, rename, fsync of the folder.
// Zone: edge and owner. A reader sees the old content or the new content, never a part of it.
import { randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { EnvironmentError } from '../trusted/wire/errors.js';

/** Appends to the temporary file behind an atomic write. */
export type Append = (bytes: Uint8Array) => Promise<void>;

/** Calls `fill` with an append function, then puts the finished file in place of `path`; makes its folder. Throws EnvironmentError, leaving the old content. */
export async function writeAtomically(path: string, fill: (append: Append) => Promise<void>): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${randomUUID()}.tmp`);
  let handle: FileHandle | undefined;
  try {
    await mkdir(folder, { recursive: true });
    const opened = await open(temporary, 'wx');
    handle = opened;
    await fill(async (bytes) => {
      for (let done = 0; done < bytes.length; ) {
        done += (await opened.write(bytes, done, Math.min(bytes.length - done, 1 << 30))).bytesWritten;
      }
    });
    await opened.sync();
    await opened.close();
    handle = undefined;
    await rename(temporary, path);
    await syncFolder(folder);
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined);
    throw describeFileError(error, path, 'write');
  }
}

/** Writes `parts` one after the other as the new content of `path`, whole or not at all. */
export async function writeFileAtomic(path: string, ...parts: readonly (Uint8Array | string)[]): Promise<void> {
  await writeAtomically(path, async (append) => {
    for (const part of parts) await append(typeof part === 'string' ? Buffer.from(part) : part);
  });
}

// Makes a rename durable. Some systems refuse fsync on folders; the rename has happened all the same.
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

const REASONS: Readonly<Record<string, readonly [code: string, reason: string]>> = {
  ENOSPC: ['disk-full', 'the disk is full; free some space and run again'],
  EDQUOT: ['disk-full', 'the disk quota is used up; free some space and run again'],
  EACCES: ['permission', 'permission denied'],
  EPERM: ['permission', 'permission denied'],
  EROFS: ['permission', 'the file system is read-only'],
  ENOENT: ['file-missing', 'there is no such file or folder'],
  ENOTDIR: ['not-a-folder', 'a part of the path is a file, not a folder'],
  EISDIR: ['not-a-file', 'it is a folder, not a file'],
  EMFILE: ['too-many-files', 'too many open files; raise the limit (ulimit -n)'],
};

/** An operating system error as an EnvironmentError that names the file; anything else is returned unchanged. */
export function describeFileError(error: unknown, path: string, action: 'read' | 'write'): unknown {
  // System errors are named E…; Node's own ERR_… and our codes are not.
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string' && /^E[A-Z0-9]+$/.test(error.code)))
    return error;
  const [code, reason] = REASONS[error.code] ?? ['file-error', error.message];
  return new EnvironmentError(code, `cannot ${action} ${path}: ${reason}`, { file: path, errno: error.code }, error);
}
