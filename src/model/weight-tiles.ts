// Rectangles of a weight: what a large weight is made, locked and written in, so that it never lies in memory whole.
// Zone: owner and edge.
import type { FileHandle } from 'node:fs/promises';
import { type SegmentWeight, sizeOfWeight } from './weights.js';

/** Part of a weight in the segment's layout, data [rows, columns]; a vector is one row. */
export interface WeightTile {
  readonly row: number;
  readonly column: number;
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

/** Writes under way at once. */
const concurrentWrites = 32;

/** `source` [rows, columns] transposed into columns `at`.. of `target` [columns, stride]; blocked so that both sides stay in cache. */
export function transposeInto(
  source: Float32Array,
  rows: number,
  columns: number,
  target: Float32Array,
  stride: number = rows,
  at = 0,
): void {
  const block = 32;
  for (let r0 = 0; r0 < rows; r0 += block) {
    const r1 = Math.min(rows, r0 + block);
    for (let c0 = 0; c0 < columns; c0 += block) {
      const c1 = Math.min(columns, c0 + block);
      for (let c = c0; c < c1; c += 1) {
        const out = c * stride + at;
        for (let r = r0; r < r1; r += 1) target[out + r] = source[r * columns + c]!;
      }
    }
  }
}

/** [rows, columns] → [columns, rows]. */
export function transposed(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  transposeInto(data, rows, columns, out);
  return out;
}

/** The one tile of a weight that is whole. */
export function wholeTile({ shape }: SegmentWeight, data: Float32Array): WeightTile {
  const columns = shape.at(-1)!;
  return { row: 0, column: 0, rows: data.length / columns, columns, data };
}

/** The weight that tiles are parts of, float32. */
export async function joinTiles(weight: SegmentWeight, tiles: AsyncIterable<WeightTile>): Promise<Float32Array> {
  const joined = new Float32Array(sizeOfWeight(weight));
  const width = weight.shape.at(-1)!;
  for await (const { row, column, rows, columns, data } of tiles)
    for (let i = 0; i < rows; i++)
      joined.set(data.subarray(i * columns, (i + 1) * columns), (row + i) * width + column);
  return joined;
}

/** Writes a tile into a file where the weight starts at byte `offset`. */
export async function writeTile(
  handle: FileHandle,
  { shape }: SegmentWeight,
  offset: number,
  { row, column, rows, columns, data }: WeightTile,
): Promise<void> {
  const width = shape.at(-1)!;
  if (columns === width) return writeFully(handle, data, offset + 4 * row * width);
  for (let first = 0; first < rows; first += concurrentWrites) {
    const count = Math.min(concurrentWrites, rows - first);
    const writes = Array.from({ length: count }, (_, i) => {
      const part = data.subarray((first + i) * columns, (first + i + 1) * columns);
      return writeFully(handle, part, offset + 4 * ((row + first + i) * width + column));
    });
    // All must have ended before the file may be closed.
    const failed = (await Promise.allSettled(writes)).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }
}

/** Writes all bytes of `data` from byte `position`. */
export async function writeFully(handle: FileHandle, data: Float32Array | Uint8Array, position: number): Promise<void> {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  for (let done = 0; done < bytes.length; ) {
    const step = Math.min(bytes.length - done, 1 << 30);
    done += (await handle.write(bytes, done, step, position + done)).bytesWritten;
  }
}
