// After the rounding in order: codes and scales of every block again, each given all the others, while that lowers eᵀ·H·e.
// Zone: owner, at lock time. Every step is the exact minimum along one coordinate, so the error never grows (as in QuIP#'s and
// QuantEase's coordinate descent, arXiv 2309.01885).
import { multiply } from '../graph/product.js';
import { type ErrorFeedback, hessianRows } from './error-feedback.js';
import { blockSize, nearestCode } from './quantise-blocks.js';

/** Columns of a weight, rounded: w = steps · scale + error. */
export interface RoundedColumns {
  readonly count: number;
  readonly bits: 4 | 8;
  /** [inputs, count]: code − zero. */
  readonly steps: Int8Array;
  /** [blocks, count]. */
  readonly scales: Float32Array;
  /** [blocks, count]. */
  readonly zeros: Uint8Array;
  /** [inputs, count]. */
  readonly errors: Float32Array;
}

/** Passes over all blocks; a pass that changes no code is the last. */
const passes = 6;

/** Changes `rounded` in place. Work a pass: inputs² · count at the runtime's speed, and 32 steps a weight here. */
export async function improveRounding(rounded: RoundedColumns, feedback: ErrorFeedback): Promise<void> {
  for (let pass = 0; pass < passes; pass += 1) {
    let changed = 0;
    for (let row = 0; row < feedback.size; row += blockSize) {
      const rows = Math.min(blockSize, feedback.size - row);
      const hessian = hessianRows(feedback, row, rows);
      const { count, errors } = rounded;
      // H·e: half of what the error falls by when a weight's rounded value rises.
      const slopes = await multiply(hessian, errors, { rows, inner: feedback.size, columns: count });
      const own = new Float64Array(rows * rows);
      for (let i = 0; i < rows; i += 1)
        for (let k = 0; k < rows; k += 1) own[i * rows + k] = hessian[i * feedback.size + row + k]!;
      changed += improveBlock(rounded, own, slopes, row, rows);
    }
    if (changed === 0) return;
  }
}

/** One block of all columns, `hessian` [rows, rows] its own part; returns how many codes changed. */
function improveBlock(
  { count, bits, steps, scales, zeros, errors }: RoundedColumns,
  hessian: Float64Array,
  slopes: Float32Array,
  row: number,
  rows: number,
): number {
  const slope = new Float64Array(rows);
  const at = (i: number, c: number): number => (row + i) * count + c;
  let changed = 0;
  for (let c = 0; c < count; c += 1) {
    const block = (row / blockSize) * count + c;
    const range = { scale: scales[block]!, zero: zeros[block]! };
    for (let i = 0; i < rows; i += 1) slope[i] = slopes[i * count + c]!;
    for (let i = 0; i < rows; i += 1) {
      const best = steps[at(i, c)]! * range.scale + slope[i]! / hessian[i * rows + i]!;
      const found = nearestCode(best, range, bits) - range.zero;
      if (found === steps[at(i, c)]) continue;
      const rise = (found - steps[at(i, c)]!) * range.scale;
      steps[at(i, c)] = found;
      errors[at(i, c)]! -= rise;
      for (let k = 0; k < rows; k += 1) slope[k]! -= hessian[i * rows + k]! * rise;
      changed += 1;
    }
    let [along, square] = [0, 0];
    for (let i = 0; i < rows; i += 1) {
      const own = steps[at(i, c)]!;
      if (own === 0) continue;
      along += own * slope[i]!;
      for (let k = 0; k < rows; k += 1) square += own * hessian[i * rows + k]! * steps[at(k, c)]!;
    }
    const scale = square > 0 ? Math.fround(range.scale + along / square) : range.scale;
    if (!(scale > 0)) continue;
    for (let i = 0; i < rows; i += 1) errors[at(i, c)]! -= steps[at(i, c)]! * (scale - range.scale);
    scales[block] = scale;
  }
  return changed;
}
