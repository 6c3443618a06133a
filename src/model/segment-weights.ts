// Fills a segment: checkpoint tensors become the weights its graph refers to, one at a time.
// Zone: owner (through a lock) and edge (reference runs of an unlocked model). DESIGN section 5.
import type { FileHandle } from 'node:fs/promises';
import { constants, mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Placement } from '../graph/onnx.js';
import type { SegmentGraph } from './segments.js';
import { type StoredTensor, storedSizes, storedTensors } from './stored-weight.js';
import type { TensorSource } from './tensors.js';
import { joinTiles, transposeInto, type WeightTile, writeFully, writeTile } from './weight-tiles.js';
import { type SegmentWeight, sizeOfWeight } from './weights.js';

const alignment = 64;

/** The square matrix with `values` on its diagonal. */
export function diagonalOf(values: Float32Array): Float32Array {
  const size = values.length;
  const matrix = new Float32Array(size * size);
  for (let i = 0; i < size; i += 1) matrix[i * (size + 1)] = values[i]!;
  return matrix;
}

/** A segment's weight in its own layout: linear tensors transposed to [in, out] and joined along columns. */
export async function readSegmentWeight(tensors: TensorSource, weight: SegmentWeight): Promise<Float32Array> {
  if (weight.kind === 'table') return tensors.read(weight.parts[0]!.tensor);
  if (weight.kind === 'diagonal') return diagonalOf(await tensors.read(weight.parts[0]!.tensor));
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

/** Where each tensor of a segment's weights lies in its data file; an integer weight has several. */
export function placeWeights(segment: SegmentGraph): Map<string, Placement> {
  const placement = new Map<string, Placement>();
  let end = 0;
  for (const weight of segment.weights) {
    for (const { name, bytes } of storedSizes(weight)) {
      const offset = Math.ceil(end / alignment) * alignment;
      placement.set(name, { offset, length: bytes });
      end = offset + bytes;
    }
  }
  return placement;
}

/** What an earlier, interrupted run has written. */
export interface WrittenWeights {
  has(segment: SegmentGraph, weight: SegmentWeight): boolean;
  /** Called when the weights are safe on disk. */
  add(segment: SegmentGraph, weights: readonly SegmentWeight[]): Promise<void>;
}

/** A weight whole, in tiles, or as the tensors that it is stored as. */
export type WeightData = Promise<Float32Array | readonly StoredTensor[]> | AsyncIterable<WeightTile>;

export type WeightOf = (weight: SegmentWeight, segment: SegmentGraph) => WeightData;

/**
 * Writes `NN.onnx` and `NN.data` of a segment into `folder`, asking `weightOf` for one weight at a time, whole or in tiles.
 * Returns the two file names. With `written`, weights that it has are left as they are. Weights of an integer format are joined and quantised.
 */
export async function writeSegment(
  folder: string,
  segment: SegmentGraph,
  weightOf: WeightOf,
  written?: WrittenWeights,
): Promise<[graph: string, data: string]> {
  const stem = String(segment.span.index).padStart(2, '0');
  const [graph, dataFile] = [`${stem}.onnx`, `${stem}.data`];
  const placement = placeWeights(segment);
  const flags = constants.O_RDWR | constants.O_CREAT | (written ? 0 : constants.O_TRUNC);
  const handle = await open(join(folder, dataFile), flags);
  try {
    const { size } = await handle.stat();
    let unsynced: SegmentWeight[] = [];
    const note = async (): Promise<void> => {
      if (written === undefined || unsynced.length === 0) return;
      await handle.datasync();
      await written.add(segment, unsynced);
      unsynced = [];
    };
    for (const weight of segment.weights) {
      const places = storedSizes(weight).map(({ name }) => placement.get(name)!);
      const { offset, length } = places.at(-1)!;
      if (written?.has(segment, weight) && size >= offset + length) continue;
      const offsets = places.map((place) => place.offset);
      await writeWeight(handle, weight, offsets, weightOf(weight, segment));
      unsynced.push(weight);
      // Vectors are not worth a sync of their own.
      if (weight.shape.length > 1) await note();
    }
    await note();
    await handle.sync();
  } finally {
    await handle.close();
  }
  await writeFile(join(folder, graph), segment.encode(dataFile, placement));
  return [graph, dataFile];
}

/** Writes several segments; `folder` is made when missing. Returns the file names relative to it. */
export async function writeSegments(
  folder: string,
  segments: readonly SegmentGraph[],
  weightOf: WeightOf,
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const files: string[] = [];
  for (const segment of segments) files.push(...(await writeSegment(folder, segment, weightOf)));
  return files;
}

async function writeWeight(
  handle: FileHandle,
  weight: SegmentWeight,
  offsets: readonly number[],
  data: WeightData,
): Promise<void> {
  const { format = 'float32' } = weight;
  if (!(data instanceof Promise) && format === 'float32') {
    for await (const tile of data) await writeTile(handle, weight, offsets[0]!, tile);
    return;
  }
  const given = data instanceof Promise ? await data : await joinTiles(weight, data);
  const stored = given instanceof Float32Array ? storedTensors(weight, given) : given;
  for (const [i, tensor] of stored.entries()) await writeFully(handle, tensor.data, offsets[i]!);
}
