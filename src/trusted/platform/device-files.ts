// The kernel's attestation files as the adapters use them: four operations, so that a test can play the kernel. Zone: trusted.
import { closeSync, constants, mkdirSync, openSync, readFileSync, rmdirSync, writeSync } from 'node:fs';

/** Every operation throws Node's error with the kernel's `code` when the kernel refuses it. */
export interface DeviceFiles {
  read(path: string): Uint8Array;
  /** One write(2) into a file that exists: the kernel takes the bytes as one value. */
  write(path: string, bytes: Uint8Array): void;
  makeDir(path: string): void;
  /** rmdir(2): in configfs the files inside belong to the kernel and go with their folder. */
  removeDir(path: string): void;
}

function writeOnce(path: string, bytes: Uint8Array): void {
  const file = openSync(path, constants.O_WRONLY);
  try {
    const written = writeSync(file, bytes);
    if (written !== bytes.length) throw Object.assign(new Error(`${path} took a part of the bytes`), { code: 'EIO' });
  } finally {
    closeSync(file);
  }
}

export const deviceFiles: DeviceFiles = {
  read: (path) => new Uint8Array(readFileSync(path)),
  write: writeOnce,
  makeDir: (path) => mkdirSync(path, { mode: 0o700 }),
  removeDir: (path) => rmdirSync(path),
};
