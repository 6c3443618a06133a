// The sealed state on disk: written to a temporary file, synced, renamed, so a crash leaves the old or the new one whole. Zone: trusted.
// A file that changed since the last save means a second enclave on the same state: refused, or both would spend one budget.
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { EnvironmentError } from '../wire/errors.js';

export interface StateFile {
  load(): Uint8Array | null;
  save(bytes: Uint8Array): void;
}

/** Inode, size and change time of the file; null when there is none. */
function identity(path: string): string | null {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? null : `${stat.ino} ${stat.size} ${stat.mtimeNs}`;
}

function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** Throws EnvironmentError('state-changed') from `save` when another process wrote the file. */
export function openStateFile(path: string): StateFile {
  let known = identity(path);
  function save(bytes: Uint8Array): void {
    if (identity(path) !== known) {
      throw new EnvironmentError('state-changed', 'a second enclave writes the same sealed state; stop one of them');
    }
    const temporary = `${path}.new`;
    const file = openSync(temporary, 'w', 0o600);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    known = identity(path);
    syncFolder(dirname(path));
  }
  return { load: () => (known === null ? null : new Uint8Array(readFileSync(path))), save };
}
