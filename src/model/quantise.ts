// Weights as int8, symmetric, one scale per output column. Zone: owner (writes them) and edge (reference runs). DESIGN section 4.
// Stored unsigned, around 128: signed ones would be multiplied wrongly on CPUs without VNNI (linear-lowering.ts).
// What the feed-forward hands to `down` has outliers that no lock turns away: an orthogonal mix inside groups of neurons spreads them
// (as in QuaRot, arXiv 2404.00456). The graph mixes the activations, the weight absorbs the inverse here.
import type { SegmentWeight } from './weights.js';

/** A weight [in, out] in eight bits and the factor of each of its columns. */
export interface Int8Weight {
  /** [in, out] row-major, 1 … 255. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** [out]: w ≈ (code − 128) · scale. */
  readonly scales: Float32Array<ArrayBuffer>;
}

/** The code of weight 0. */
export const weightZero = 128;

/** Largest group of neurons that is mixed: 32 costs 5 % of a block's time, more gains nothing. */
const largestMix = 32;

/** Name of the scales [out] that belong to a weight stored as int8 [in, out]. */
export function scalesName(weight: string): string {
  return `${weight}.scale`;
}

/** A weight of format int8 as the graphs read it. `data` [in, out] row-major, finite. */
export function quantiseWeight(weight: SegmentWeight, data: Float32Array): Int8Weight {
  const [inputs, outputs] = weight.shape as [number, number];
  const size = neuronMix(weight);
  return quantiseColumns(size === 1 ? data : mixRows(data, outputs, size), inputs, outputs);
}

/** How many neighbouring neurons the graph mixes before this weight; 1: none. */
export function neuronMix(weight: SegmentWeight): number {
  let size = 1;
  while (weight.rows === 'neurons' && size < largestMix && weight.shape[0]! % (2 * size) === 0) size *= 2;
  return size;
}

/** The Hadamard matrix [size, size] of a power of two, scaled to be orthogonal; it is its own inverse. */
export function hadamard(size: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(size * size).fill(1 / Math.sqrt(size));
  for (let i = 0; i < size; i += 1)
    for (let j = 0; j < size; j += 1) for (let bits = i & j; bits !== 0; bits &= bits - 1) out[i * size + j]! *= -1;
  return out;
}

/** Hᵀ·W within every `size` rows of W [rows, columns]: the fast transform, log₂ size passes. */
function mixRows(data: Float32Array, columns: number, size: number): Float32Array {
  const out = data.slice();
  const rows = data.length / columns;
  const factor = Math.SQRT1_2;
  for (let half = 1; half < size; half *= 2) {
    for (let row = 0; row < rows; row += 1) {
      if ((row & half) !== 0) continue;
      const [first, second] = [row * columns, (row + half) * columns];
      for (let c = 0; c < columns; c += 1) {
        const [a, b] = [out[first + c]!, out[second + c]!];
        out[first + c] = (a + b) * factor;
        out[second + c] = (a - b) * factor;
      }
    }
  }
  return out;
}

/** `weight` [inputs, outputs] row-major, finite. An element's error is at most half its column's scale, max|w|/127. */
export function quantiseColumns(weight: Float32Array, inputs: number, outputs: number): Int8Weight {
  const scales = new Float32Array(outputs);
  for (let i = 0; i < inputs; i += 1) {
    const row = i * outputs;
    for (let j = 0; j < outputs; j += 1) {
      const size = Math.abs(weight[row + j]!);
      if (size > scales[j]!) scales[j] = size;
    }
  }
  for (let j = 0; j < outputs; j += 1) scales[j]! /= 127;
  const inverse = scales.map((scale) => (scale === 0 ? 0 : 1 / scale));
  const codes = new Uint8Array(weight.length);
  for (let i = 0; i < inputs; i += 1) {
    const row = i * outputs;
    for (let j = 0; j < outputs; j += 1)
      codes[row + j] = weightZero + Math.max(-127, Math.min(127, Math.round(weight[row + j]! * inverse[j]!)));
  }
  return { codes, scales };
}
