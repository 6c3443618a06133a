// Weights in quantised blocks, rounded input by input so that later inputs take back what the earlier ones' rounding changed in the layer's
// outputs (GPTQ, arXiv 2210.17323; in the form of LDLQ, QuIP arXiv 2307.13304), then improved code by code. Zone: owner, at lock time.
import { multiply } from '../graph/product.js';
import { improveRounding, type RoundedColumns } from './coordinate-descent.js';
import type { ErrorFeedback } from './error-feedback.js';
import {
  type BlockRange,
  type BlockWeight,
  BlockWriter,
  blockSize,
  nearestCode,
  rangesToTry,
} from './quantise-blocks.js';

/** Output columns at work at once: their errors stay near the caches, and the head's are not all in memory. */
const columnsAtOnce = 2048;
/** Times that a block's scale is fitted to its codes and the codes rounded again. */
const fits = 2;

/**
 * `weight` [inputs, outputs] row-major, finite. With w the weights of one output and e = w − ŵ what rounding takes away, input i is
 * rounded at wᵢ + Σ_{j<i} Uⱼᵢ·eⱼ, which is the least of eᵀ·H·e that a choice made in this order can reach. A block's range is chosen
 * when its first input is due, by rounding the block with each. Work: a few times inputs² · outputs at the runtime's speed, and some
 * 200 steps a weight here.
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
    const count = Math.min(columnsAtOnce, outputs - first);
    const own = new Float32Array(inputs * count);
    for (let i = 0; i < inputs; i += 1)
      own.set(weight.subarray(i * outputs + first, i * outputs + first + count), i * count);
    const rounded = await roundInOrder(own, count, bits, feedback);
    await improveRounding(rounded, feedback);
    writeColumns(written, first, rounded);
  }
  return written;
}

async function roundInOrder(
  weight: Float32Array,
  count: number,
  bits: 4 | 8,
  feedback: ErrorFeedback,
): Promise<RoundedColumns> {
  const inputs = feedback.size;
  const blocks = Math.ceil(inputs / blockSize);
  const rounded: RoundedColumns = {
    count,
    bits,
    steps: new Int8Array(inputs * count),
    scales: new Float32Array(blocks * count),
    zeros: new Uint8Array(blocks * count),
    errors: new Float32Array(inputs * count),
  };
  for (let row = 0; row < inputs; row += blockSize) {
    const rows = Math.min(blockSize, inputs - row);
    const fed = await fedBack(rounded, feedback, row, rows);
    roundBlock(rounded, weight, fed, feedback, row, rows);
  }
  return rounded;
}

/** What the errors of all earlier blocks add to the weights of a block, [rows, count]. */
async function fedBack(
  { count, errors }: RoundedColumns,
  { size, shares }: ErrorFeedback,
  row: number,
  rows: number,
): Promise<Float32Array> {
  if (row === 0) return new Float32Array(rows * count);
  const share = new Float32Array(rows * row);
  for (let j = 0; j < row; j += 1) for (let i = 0; i < rows; i += 1) share[i * row + j] = shares[j * size + row + i]!;
  return multiply(share, errors.subarray(0, row * count), { rows, inner: row, columns: count });
}

/** Rounds a block's inputs one after the other, each output by itself. */
function roundBlock(
  rounded: RoundedColumns,
  weight: Float32Array,
  fed: Float32Array,
  { size, shares, costs }: ErrorFeedback,
  row: number,
  rows: number,
): void {
  const { count, bits, steps, scales, zeros, errors } = rounded;
  const block = row / blockSize;
  const column = new BlockColumn(bits, rows, costs.subarray(row, row + rows));
  for (let i = 0; i < rows; i += 1)
    for (let j = 0; j < i; j += 1) column.shares[i * blockSize + j] = shares[(row + j) * size + row + i]!;
  for (let c = 0; c < count; c += 1) {
    for (let i = 0; i < rows; i += 1) {
      column.weights[i] = weight[(row + i) * count + c]!;
      column.fed[i] = fed[i * count + c]!;
    }
    const range = column.round();
    scales[block * count + c] = range.scale;
    zeros[block * count + c] = range.zero;
    for (let i = 0; i < rows; i += 1) {
      steps[(row + i) * count + c] = column.steps[i]!;
      errors[(row + i) * count + c] = column.weights[i]! - column.steps[i]! * range.scale;
    }
  }
}

/** One block of one output. Its cost is Σ dᵢ·rᵢ² with r = fed + (Uᵀ + I)·(w − steps · scale) within the block. */
class BlockColumn {
  readonly weights: Float32Array = new Float32Array(blockSize);
  readonly fed: Float32Array = new Float32Array(blockSize);
  /** [i, j]: what input i takes of the error at j. */
  readonly shares: Float32Array = new Float32Array(blockSize * blockSize);
  readonly steps: Int8Array = new Int8Array(blockSize);
  readonly #bits: 4 | 8;
  readonly #rows: number;
  readonly #costs: Float32Array;
  readonly #tried: Int8Array = new Int8Array(blockSize);
  readonly #errors: Float64Array = new Float64Array(blockSize);

  constructor(bits: 4 | 8, rows: number, costs: Float32Array) {
    this.#bits = bits;
    this.#rows = rows;
    this.#costs = costs;
  }

  /** Fills `steps`; returns their range. */
  round(): BlockRange {
    const values = new Float32Array(blockSize);
    for (let i = 0; i < this.#rows; i += 1) values[i] = this.weights[i]! + this.fed[i]!;
    let best: BlockRange = { scale: 1, zero: this.#bits === 8 ? 128 : 8 };
    let least = Number.POSITIVE_INFINITY;
    const keep = (range: BlockRange): void => {
      const cost = this.#try(range);
      if (cost >= least) return;
      least = cost;
      best = range;
      this.steps.set(this.#tried);
    };
    for (const range of rangesToTry(values, this.#bits)) keep(range);
    for (let fit = 0; fit < fits; fit += 1) keep({ scale: this.#fittedScale(best.scale), zero: best.zero });
    return best;
  }

  #try(range: BlockRange): number {
    const errors = this.#errors;
    let cost = 0;
    for (let i = 0; i < this.#rows; i += 1) {
      let target = this.weights[i]! + this.fed[i]!;
      for (let j = 0; j < i; j += 1) target += errors[j]! * this.shares[i * blockSize + j]!;
      const steps = nearestCode(target, range, this.#bits) - range.zero;
      this.#tried[i] = steps;
      errors[i] = this.weights[i]! - steps * range.scale;
      cost += this.#costs[i]! * (target - steps * range.scale) ** 2;
    }
    return cost;
  }

  /** The scale at which `steps` cost least: r is linear in it. */
  #fittedScale(scale: number): number {
    let [along, square] = [0, 0];
    for (let i = 0; i < this.#rows; i += 1) {
      let rest = this.fed[i]! + this.weights[i]! - this.steps[i]! * scale;
      let slope = this.steps[i]!;
      for (let j = 0; j < i; j += 1) {
        const share = this.shares[i * blockSize + j]!;
        rest += share * (this.weights[j]! - this.steps[j]! * scale);
        slope += share * this.steps[j]!;
      }
      along += this.#costs[i]! * rest * slope;
      square += this.#costs[i]! * slope * slope;
    }
    const fitted = square > 0 ? Math.fround(scale + along / square) : scale;
    return fitted > 0 ? fitted : scale;
  }
}

function writeColumns(written: BlockWriter, first: number, { count, steps, scales, zeros }: RoundedColumns): void {
  const blocks = scales.length / count;
  const inputs = steps.length / count;
  for (let c = 0; c < count; c += 1) {
    for (let block = 0; block < blocks; block += 1) {
      const zero = zeros[block * count + c]!;
      written.setRange(block, first + c, { scale: scales[block * count + c]!, zero });
      for (let row = block * blockSize; row < (block + 1) * blockSize; row += 1)
        written.setCode(row, first + c, zero + (row < inputs ? steps[row * count + c]! : 0));
    }
  }
}
