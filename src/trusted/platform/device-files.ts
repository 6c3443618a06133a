// The kernel's attestation files as the adapters use them: four operations, so that a test can play the kernel. Zone: trusted.
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';

/** Every operation throws Node's error with the kernel's `code` when the kernel refuses it. */
export interface DeviceFiles {
  read(path: string): Uint8Array;
  /** In one write(2): the kernel takes the bytes as one value. */
  write(path: string, bytes: Uint8Array): void;
  makeDir(path: string): void;
  /** rmdir(2): in configfs the files inside belong to the kernel and go with their folder. */
  removeDir(path: string): void;
}

export const deviceFiles: DeviceFiles = {
  read: (path) => new Uint8Array(readFileSync(path)),
  write: (path, bytes) => writeFileSync(path, bytes),
  makeDir: (path) => mkdirSync(path, { mode: 0o700 }),
  removeDir: (path) => rmdirSync(path),
};
