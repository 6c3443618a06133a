// A head from released rows, all tokens at once: log p(v) = h·w_v − z(h) leaves z unknown, so each row counts by its differences from the
// row's mean. Zone: owner (as attacker). Conjugate gradients on the normal equations (Hestenes and Stiefel 1952); a common vector added to
// all w_v changes no probability and stays as `start` has it.
import type { TeacherRows } from '../edge/cache/rows.js';

/** Hidden states that went into the head, [rows, width], and the rows that came out. */
export interface HeadRows {
  readonly headInput: Float32Array;
  readonly released: TeacherRows;
}

/** `start` is [vocabulary, width], and so is the result. Tokens that no row names keep their start. */
export function fitHead(
  start: Float32Array,
  width: number,
  asked: readonly HeadRows[],
  { ridge = 1e-6, iterations = 300 }: { readonly ridge?: number; readonly iterations?: number } = {},
): Float32Array {
  const head = Float64Array.from(start);
  const residual = transposed(start.length, width, asked, (row) => deviations(head, width, row, true));
  const direction = residual.slice();
  let before = dot(residual, residual);
  const enough = before * 1e-14;
  for (let round = 0; round < iterations && before > enough; round += 1) {
    const moved = transposed(start.length, width, asked, (row) => deviations(direction, width, row, false));
    for (let i = 0; i < moved.length; i += 1) moved[i]! += ridge * direction[i]!;
    const step = before / dot(direction, moved);
    for (let i = 0; i < head.length; i += 1) {
      head[i]! += step * direction[i]!;
      residual[i]! -= step * moved[i]!;
    }
    const after = dot(residual, residual);
    for (let i = 0; i < direction.length; i += 1) direction[i] = residual[i]! + (after / before) * direction[i]!;
    before = after;
  }
  return Float32Array.from(head);
}

/** h·w of every released entry, or with `against` what is missing to its log-probability; each row without its mean. */
function deviations(w: Float64Array, width: number, { headInput, released }: HeadRows, against: boolean): Float64Array {
  const { rows, k, tokenIds, logprobs } = released;
  const out = new Float64Array(rows * k);
  for (let row = 0; row < rows; row += 1) {
    let mean = 0;
    for (let i = row * k; i < (row + 1) * k; i += 1) {
      let value = 0;
      const at = tokenIds[i]! * width;
      for (let c = 0; c < width; c += 1) value += headInput[row * width + c]! * w[at + c]!;
      out[i] = against ? logprobs[i]! - value : value;
      mean += out[i]! / k;
    }
    for (let i = row * k; i < (row + 1) * k; i += 1) out[i]! -= mean;
  }
  return out;
}

/** Σ deviation·h, gathered by token. */
function transposed(
  size: number,
  width: number,
  asked: readonly HeadRows[],
  values: (row: HeadRows) => Float64Array,
): Float64Array {
  const out = new Float64Array(size);
  for (const each of asked) {
    const { headInput, released } = each;
    values(each).forEach((value, i) => {
      const from = Math.floor(i / released.k) * width;
      const to = released.tokenIds[i]! * width;
      for (let c = 0; c < width; c += 1) out[to + c]! += value * headInput[from + c]!;
    });
  }
  return out;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i]! * b[i]!;
  return sum;
}
