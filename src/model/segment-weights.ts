// Fills a segment: checkpoint tensors become the weights its graph refers to, one at a time.
// Zone: owner (through a lock) and edge (reference runs of an unlocked model). DESIGN section 5.
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Placement } from '../graph/onnx.js';
import { type SegmentGraph, type SegmentWeight, sizeOfWeight } from './segments.js';
import { type StoredTensor, storedTensors } from './stored-weight.js';
import type { TensorSource } from './tensors.js';

const alignment = 64;

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

/** A segment's weight in its own layout: linear tensors transposed to [in, out] and joined along columns. */
export async function readSegmentWeight(tensors: TensorSource, weight: SegmentWeight): Promise<Float32Array> {
  if (weight.kind === 'table') return tensors.read(weight.parts[0]!.tensor);
  const joined = new Float32Array(sizeOfWeight(weight));
  const [inputs, outputs] = weight.kind === 'matrix' ? (weight.shape as [number, number]) : [1, weight.shape[0]!];
  let at = 0;
  for (const { tensor } of weight.parts) {
    const data = await tensors.read(tensor);
    transposeInto(data, data.length / inputs, inputs, joined, outputs, at);
    at += data.length / inputs;
  }
  return joined;
}

/**
 * Writes `NN.onnx` and `NN.data` of every segment into `folder`, asking `weightOf` for one weight at a time.
 * Returns the file names relative to `folder`. Peak memory: one weight.
 */
export async function writeSegments(
  folder: string,
  segments: readonly SegmentGraph[],
  weightOf: (weight: SegmentWeight) => Promise<Float32Array>,
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const files: string[] = [];
  for (const segment of segments) {
    const stem = String(segment.index).padStart(2, '0');
    const placement = new Map<string, Placement>();
    const handle = await open(join(folder, `${stem}.data`), 'w');
    try {
      let offset = 0;
      for (const weight of segment.weights) {
        for (const { name, data } of storedTensors(weight, await weightOf(weight))) {
          offset = Math.ceil(offset / alignment) * alignment;
          await writeFully(handle, data, offset);
          placement.set(name, { offset, length: data.byteLength });
          offset += data.byteLength;
        }
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await writeFile(join(folder, `${stem}.onnx`), segment.encode(`${stem}.data`, placement));
    files.push(`${stem}.onnx`, `${stem}.data`);
  }
  return files;
}

async function writeFully(handle: FileHandle, data: StoredTensor['data'], position: number): Promise<void> {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
