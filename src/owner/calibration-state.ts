// How far a calibrated lock is: the hidden states of its text before the block at work, so that a lock that was killed need not begin again.
// Zone: owner. A dot file of the unfinished bundle: block number (uint32), then float32 values, both little-endian.
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../model/files.js';

/** Hidden states [sequences · tokens, width] before block `block`. */
export interface ReachedBlock {
  readonly block: number;
  readonly hidden: Float32Array;
}

export interface CalibrationState {
  /** null: there is none of this many values. */
  load(size: number): Promise<ReachedBlock | null>;
  save(reached: ReachedBlock): Promise<void>;
  /** Also takes away what a kill left of a `save`: nothing of it may be handed out with the bundle. */
  clear(): Promise<void>;
}

const headerBytes = 4;

export function calibrationStateIn(folder: string): CalibrationState {
  const name = '.calibration';
  const path = join(folder, name);
  return {
    async load(size) {
      const bytes = await readFile(path).catch(() => null);
      if (bytes === null || bytes.length !== headerBytes + 4 * size) return null;
      const hidden = new Float32Array(size);
      new Uint8Array(hidden.buffer).set(bytes.subarray(headerBytes));
      return { block: bytes.readUInt32LE(0), hidden };
    },
    async save({ block, hidden }) {
      const header = Buffer.alloc(headerBytes);
      header.writeUInt32LE(block);
      await writeFileAtomic(path, header, new Uint8Array(hidden.buffer, hidden.byteOffset, hidden.byteLength));
    },
    async clear() {
      const left = (await readdir(folder)).filter((found) => found === name || found.startsWith(`.${name}.`));
      for (const found of left) await rm(join(folder, found));
    },
  };
}
