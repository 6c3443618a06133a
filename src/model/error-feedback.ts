// What the rounding of one input of a linear layer costs, and what of it later inputs can take back: a factorisation of the layer's
// Hessian H = Σ x·xᵀ over calibration text. Zone: owner. H = (U + I)·diag(d)·(U + I)ᵀ with U strictly upper triangular, as in QuIP
// (arXiv 2307.13304, section 3), which shows that GPTQ (arXiv 2210.17323) is the same algorithm; no inverse is needed.
import { multiply } from '../graph/product.js';
import { MalformedError } from '../trusted/wire/errors.js';

export interface ErrorFeedback {
  /** Inputs of the layer. */
  readonly size: number;
  /**
   * U above the diagonal [size, size]: share[j, i] of the error made at input j is added to the weight at input i > j before that is rounded.
   * Below the diagonal H is left, which is symmetric.
   */
  readonly shares: Float32Array;
  /** d [size]: what a squared error at input i costs once everything was fed back. */
  readonly costs: Float32Array;
  /** H's diagonal [size], with what was added to it. */
  readonly diagonal: Float32Array;
}

/** Added to H's diagonal, as a share of its mean: text of a few thousand tokens leaves directions unseen. */
const damping = 0.01;
const panelColumns = 64;

/** `hessian` [size, size] symmetric; it is overwritten. Of order size³. Throws MalformedError('calibration-overflow') when it is not finite. */
export async function factorHessian(hessian: Float32Array, size: number): Promise<ErrorFeedback> {
  let trace = 0;
  for (let i = 0; i < size; i += 1) trace += hessian[i * (size + 1)]!;
  if (!Number.isFinite(trace)) {
    const message = `on the calibration text a layer of ${size} inputs reads values beyond float32: check the checkpoint, or quantise without calibration`;
    throw new MalformedError('calibration-overflow', message, { inputs: size });
  }
  const added = trace > 0 ? (damping * trace) / size : 1;
  for (let i = 0; i < size; i += 1) hessian[i * (size + 1)]! += added;
  const diagonal = Float32Array.from({ length: size }, (_, i) => hessian[i * (size + 1)]!);
  await choleskyFromTheEnd(hessian, size, added / 2);
  const costs = new Float32Array(size);
  for (let j = 0; j < size; j += 1) {
    const pivot = hessian[j * (size + 1)]!;
    costs[j] = pivot * pivot;
    for (let i = 0; i < j; i += 1) hessian[i * size + j]! /= pivot;
  }
  return { size, shares: hessian, costs, diagonal };
}

/** Rows first … first + rows − 1 of H, [rows, size]. */
export function hessianRows({ size, shares, diagonal }: ErrorFeedback, first: number, rows: number): Float32Array {
  const out = new Float32Array(rows * size);
  for (let r = 0; r < rows; r += 1) {
    const i = first + r;
    for (let k = 0; k < size; k += 1)
      out[r * size + k] = k === i ? diagonal[i]! : shares[k < i ? i * size + k : k * size + i]!;
  }
  return out;
}

/**
 * What stands nearest to `weight` [size, columns] now that the layer reads x instead of x⁰: the least squares of ‖Wᵀx⁰ − Ŵᵀx‖ over the
 * text, W + H⁻¹·(Σ x·(x⁰ − x)ᵀ)·W, with the damping that H has (as GPTAQ, arXiv 2504.02692).
 */
export async function correctedWeight(
  weight: Float32Array,
  columns: number,
  shift: Float32Array,
  feedback: ErrorFeedback,
): Promise<Float32Array> {
  const { size } = feedback;
  const moved = await multiply(shift, weight, { rows: size, inner: size, columns });
  await solveHessian(feedback, moved);
  for (let i = 0; i < moved.length; i += 1) moved[i]! += weight[i]!;
  return moved;
}

/** H⁻¹·right, in the place of `right` [size, columns]: panels against all others at the runtime's speed. */
async function solveHessian({ size, shares, costs }: ErrorFeedback, right: Float32Array): Promise<void> {
  const columns = right.length / size;
  // (U + I)·y = right from the last row, z = y / d, then (U + I)ᵀ·x = z from the first.
  const unit = (i: number, j: number, turned: boolean): number => shares[turned ? j * size + i : i * size + j]!;
  for (const turned of [false, true]) {
    for (let done = 0; done < size; done += panelColumns) {
      const count = Math.min(panelColumns, size - done);
      const first = turned ? done : size - done - count;
      const known = turned ? 0 : size - done;
      if (done > 0) {
        const panel = new Float32Array(count * done);
        for (let i = 0; i < count; i += 1)
          for (let k = 0; k < done; k += 1) panel[i * done + k] = unit(first + i, known + k, turned);
        const rest = right.subarray(known * columns, (known + done) * columns);
        const sums = await multiply(panel, rest, { rows: count, inner: done, columns });
        for (let i = 0; i < sums.length; i += 1) right[first * columns + i]! -= sums[i]!;
      }
      for (let step = 0; step < count; step += 1) {
        const i = turned ? first + step : first + count - 1 - step;
        for (let k = turned ? first : i + 1; k < (turned ? i : first + count); k += 1) {
          const share = unit(i, k, turned);
          for (let c = 0; c < columns; c += 1) right[i * columns + c]! -= share * right[k * columns + c]!;
        }
      }
    }
    if (!turned) for (let i = 0; i < right.length; i += 1) right[i]! /= costs[Math.floor(i / columns)]!;
  }
}

/**
 * H = V·Vᵀ with V upper triangular, in place; the lower triangle keeps what it had. Column panels from the last to the first, each
 * against all later ones at the runtime's speed and inside itself in float64. Pivots are at least `least`, which rounding could miss.
 */
async function choleskyFromTheEnd(h: Float32Array, n: number, least: number): Promise<void> {
  for (let end = n; end > 0; end -= panelColumns) {
    const start = Math.max(0, end - panelColumns);
    if (end < n) {
      const later = { rows: end, inner: n - end, columns: end - start };
      const right = columnsFrom(h, n, 0, end, end);
      const sums = await multiply(right, right.subarray(start * later.inner), { ...later, transB: true });
      for (let i = 0; i < end; i += 1)
        for (let c = Math.max(0, i - start); c < later.columns; c += 1)
          h[i * n + start + c]! -= sums[i * later.columns + c]!;
    }
    for (let j = end - 1; j >= start; j -= 1) {
      for (let i = j; i >= 0; i -= 1) {
        let x = h[i * n + j]!;
        for (let k = j + 1; k < end; k += 1) x -= h[i * n + k]! * h[j * n + k]!;
        h[i * n + j] = i === j ? Math.sqrt(Math.max(x, least)) : x / h[j * n + j]!;
      }
    }
  }
}

/** Columns `column`.. of rows first … end − 1 of a square matrix. */
function columnsFrom(matrix: Float32Array, n: number, first: number, end: number, column: number): Float32Array {
  const width = n - column;
  const out = new Float32Array((end - first) * width);
  for (let row = first; row < end; row += 1)
    out.set(matrix.subarray(row * n + column, (row + 1) * n), (row - first) * width);
  return out;
}
