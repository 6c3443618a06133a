// How far a student is from its teacher at one position: KL over the released top-k and one bucket for the rest. Zone: edge.
// The same definition as in training (`graph/ops/loss.ts`), summed in float64. Hinton et al. 2015, arXiv 1503.02531.
import type { TeacherRows } from '../../cache/rows.js';

/** Keeps the logarithm finite when a student puts no representable mass outside the top k; far below any trained value. */
const SMALLEST_REST = 1e-30;

/** A student's answer at one position: ln q of the teacher's k tokens, and the probability that it gives to all others. */
export interface StudentRow {
  readonly logprobs: Float32Array;
  readonly rest: number;
}

/** KL(teacher‖student) in nats of row `row`. */
export function klOfRow(teacher: TeacherRows, row: number, { logprobs, rest }: StudentRow): number {
  let kl = 0;
  for (let i = 0; i < teacher.k; i += 1) {
    const logp = teacher.logprobs[row * teacher.k + i]!;
    kl += Math.exp(logp) * (logp - logprobs[i]!);
  }
  const tail = teacher.tail[row]!;
  return kl + Math.exp(tail) * (tail - Math.log(Math.max(rest, SMALLEST_REST)));
}
