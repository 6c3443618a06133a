// Weights in quantised blocks, rounded input by input so that later inputs take back what the earlier ones' rounding changed in the layer's
// outputs (GPTQ, arXiv 2210.17323; in the form of LDLQ, QuIP arXiv 2307.13304). Zone: owner, at lock time.
import { multiply } from '../graph/product.js';
import type { ErrorFeedback } from './error-feedback.js';
import { type BlockWeight, BlockWriter, bestRange, blockSize, nearestCode } from './quantise-blocks.js';

/** Output columns at work at once: their errors stay near the caches, and the head's are not all in memory. */
const columnsAtOnce = 2048;

/**
 * `weight` [inputs, outputs] row-major, finite. With w the weights of one output and e = w − ŵ what rounding takes away, input i is
 * rounded at wᵢ + Σ_{j<i} Uⱼᵢ·eⱼ, which is the least of eᵀ·H·e that a choice made in this order can reach. A block's range is chosen
 * when its first input is due. Work: inputs² · outputs, half of it at the runtime's speed.
 */
export async function quantiseWithFeedback(
  weight: Float32Array,
  outputs: number,
  bits: 4 | 8,
  feedback: ErrorFeedback,
): Promise<BlockWeight> {
  const inputs = feedback.size;
  const written = new BlockWriter(inputs, outputs, bits);
  for (let first = 0; first < outputs; first += columnsAtOnce) {
    const columns = { first, count: Math.min(columnsAtOnce, outputs - first) };
    const errors = new Float32Array(inputs * columns.count);
    for (let row = 0; row < inputs; row += blockSize) {
      const rows = Math.min(blockSize, inputs - row);
      const targets = await targetsOf(weight, outputs, errors, feedback, { row, rows, ...columns });
      roundBlock(written, targets, errors, feedback, { row, rows, ...columns }, weight, outputs);
    }
  }
  return written;
}

/** Inputs row … row + rows − 1 of outputs first … first + count − 1. */
interface Rectangle {
  readonly row: number;
  readonly rows: number;
  readonly first: number;
  readonly count: number;
}

/** The weights of a block [rows, count] with the errors of all earlier blocks fed back. */
async function targetsOf(
  weight: Float32Array,
  outputs: number,
  errors: Float32Array,
  { size, shares }: ErrorFeedback,
  { row, rows, first, count }: Rectangle,
): Promise<Float32Array> {
  const targets = new Float32Array(rows * count);
  for (let i = 0; i < rows; i += 1) {
    const at = (row + i) * outputs + first;
    targets.set(weight.subarray(at, at + count), i * count);
  }
  if (row === 0) return targets;
  const share = new Float32Array(rows * row);
  for (let j = 0; j < row; j += 1) for (let i = 0; i < rows; i += 1) share[i * row + j] = shares[j * size + row + i]!;
  const fed = await multiply(share, errors.subarray(0, row * count), { rows, inner: row, columns: count });
  for (let i = 0; i < fed.length; i += 1) targets[i]! += fed[i]!;
  return targets;
}

/** Rounds a block's inputs one after the other, each output by itself. */
function roundBlock(
  written: BlockWriter,
  targets: Float32Array,
  errors: Float32Array,
  { size, shares, costs }: ErrorFeedback,
  { row, rows, first, count }: Rectangle,
  weight: Float32Array,
  outputs: number,
): void {
  const values = new Float32Array(blockSize);
  const cost = new Float32Array(blockSize);
  cost.set(costs.subarray(row, row + rows));
  // U within the block, [i, j]: what input i takes of the error at j.
  const own = new Float32Array(blockSize * blockSize);
  for (let i = 0; i < rows; i += 1)
    for (let j = 0; j < i; j += 1) own[i * blockSize + j] = shares[(row + j) * size + row + i]!;
  const made = new Float32Array(blockSize);
  for (let c = 0; c < count; c += 1) {
    for (let i = 0; i < rows; i += 1) values[i] = targets[i * count + c]!;
    const range = bestRange(values, written.bits, cost);
    written.setRange(row / blockSize, first + c, range);
    for (let i = 0; i < blockSize; i += 1) {
      let target = values[i]!;
      for (let j = 0; j < i; j += 1) target += made[j]! * own[i * blockSize + j]!;
      const code = nearestCode(target, range, written.bits);
      written.setCode(row + i, first + c, code);
      if (i >= rows) continue;
      made[i] = weight[(row + i) * outputs + first + c]! - (code - range.zero) * range.scale;
      errors[(row + i) * count + c] = made[i]!;
    }
  }
}
