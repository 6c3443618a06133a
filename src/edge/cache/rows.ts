// What the teacher released for some positions: top-k ids and log-probabilities plus the mass of everything else.
// Zone: edge (DESIGN section 8). Top-k and one tail bucket form a distribution, so a KL over them is a KL.
import { MalformedError } from '../../trusted/wire/errors.js';

export interface TeacherRows {
  readonly rows: number;
  readonly k: number;
  /** [rows, k], by log-probability descending. */
  readonly tokenIds: Int32Array;
  /** [rows, k], natural logarithm, at the temperature that was asked for. */
  readonly logprobs: Float32Array;
  /** [rows], logarithm of the mass outside the top k, never below TAIL_FLOOR. */
  readonly tail: Float32Array;
}

/** Lower bound of a tail's log mass. Below e^-20 (2e-9) a float32 sum of probabilities cannot tell it from zero. */
export const TAIL_FLOOR = -20;

/**
 * log(1 - Σ exp(logprobs)) of one row of k descending log-probabilities, at least TAIL_FLOOR. The leading probability enters as
 * -expm1(l₀) = 1 - p₀, which keeps its digits when the teacher is nearly certain; rounding that puts the sum above 1 gives the floor.
 */
export function tailLogMass(logprobs: Float32Array, offset: number, k: number): number {
  let mass = -Math.expm1(logprobs[offset]!);
  for (let i = offset + 1; i < offset + k; i++) mass -= Math.exp(logprobs[i]!);
  return mass > 0 ? Math.max(TAIL_FLOOR, Math.log(mass)) : TAIL_FLOOR;
}

/** Rows from released ids and log-probabilities, tail computed. Throws MalformedError when the sizes do not fit. */
export function createTeacherRows(k: number, tokenIds: Int32Array, logprobs: Float32Array): TeacherRows {
  const rows = tokenIds.length / k;
  if (!Number.isInteger(rows) || logprobs.length !== tokenIds.length) {
    throw new MalformedError(
      'teacher-rows-size',
      `teacher rows of k=${k} got ${tokenIds.length} ids and ${logprobs.length} log-probabilities`,
    );
  }
  const tail = new Float32Array(rows);
  for (let row = 0; row < rows; row++) tail[row] = tailLogMass(logprobs, row * k, k);
  return { rows, k, tokenIds, logprobs, tail };
}

/** A view of rows [start, end) that shares memory. */
export function sliceTeacherRows(rows: TeacherRows, start: number, end: number): TeacherRows {
  return {
    rows: end - start,
    k: rows.k,
    tokenIds: rows.tokenIds.subarray(start * rows.k, end * rows.k),
    logprobs: rows.logprobs.subarray(start * rows.k, end * rows.k),
    tail: rows.tail.subarray(start, end),
  };
}
