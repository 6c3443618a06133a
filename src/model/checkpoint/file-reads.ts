// Reading files with errors that name the file and say what to do: whole small files, exact positional ranges of large ones.
// Zone: edge and owner.

import { createHash } from 'node:crypto';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { EnvironmentError, MalformedError } from '../../trusted/wire/errors.js';

/** Node refuses single reads above 2 GiB. */
const maxReadBytes = 1 << 30;

/** The system's error code (`ENOENT`, `ENOSPC`, …) of an unknown error, or an empty string. */
export function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Turns a system error from reading into one of ours. */
export function readFailure(file: string, error: unknown): MalformedError | EnvironmentError {
  const code = systemCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new MalformedError(
      'file-missing',
      `${file} does not exist: check the path or fetch the file again.`,
      { file },
      error,
    );
  }
  return new EnvironmentError(
    'file-unreadable',
    `${file} cannot be read (${code}): check that it is a readable file.`,
    { file, system: code },
    error,
  );
}

export async function openForReading(file: string): Promise<{ handle: FileHandle; size: number }> {
  try {
    const handle = await open(file, 'r');
    const stats = await handle.stat();
    if (!stats.isFile()) {
      await handle.close();
      throw new EnvironmentError('file-unreadable', `${file} is not a file.`, { file });
    }
    return { handle, size: stats.size };
  } catch (error) {
    throw error instanceof EnvironmentError ? error : readFailure(file, error);
  }
}

/** Reads exactly `length` bytes at `position`; `what` (a tensor, "the header") is named when the file ends before that. */
export async function readExactly(
  handle: FileHandle,
  position: number,
  length: number,
  file: string,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const step = Math.min(length - done, maxReadBytes);
    let count: number;
    try {
      count = (await handle.read(bytes, done, step, position + done)).bytesRead;
    } catch (error) {
      throw readFailure(file, error);
    }
    if (count === 0) {
      throw new MalformedError(
        'file-truncated',
        `${file} ends at byte ${position + done} inside ${what}: the file is truncated, copy or download it again.`,
        { file, part: what, offset: position + done },
      );
    }
    done += count;
  }
  return bytes;
}

export async function readWhole(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (error) {
    throw readFailure(file, error);
  }
}

/** Like readWhole, but a file that is not there gives undefined. */
export async function readIfPresent(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw readFailure(file, error);
  }
}

/** Digest of names, sizes and modification times: another one when a file was changed, without reading it. */
export async function fingerprintFiles(
  files: readonly { readonly file: string; readonly handle: FileHandle }[],
): Promise<string> {
  const facts: (string | number)[][] = [];
  for (const { file, handle } of files) {
    const { size, mtimeMs } = await handle.stat();
    facts.push([basename(file), size, mtimeMs]);
  }
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex');
}
