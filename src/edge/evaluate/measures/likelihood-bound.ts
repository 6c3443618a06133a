// The log-probability of a token under a teacher that releases its k most likely tokens only. Zone: edge.
import type { TeacherRows } from '../../cache/rows.js';

export interface TokenScore {
  /** ln p of the token, or its upper bound. */
  readonly logprob: number;
  /** False: the token is outside the top k. */
  readonly exact: boolean;
  /** Whether it is the most likely token. */
  readonly best: boolean;
}

/**
 * A token outside the top k is at most as likely as the k-th, and has at most the mass that the top k leave:
 * ln p ≤ min(ln p_k, ln(1 − Σ p)). With the whole vocabulary released there is no outside.
 */
export function scoreFromTopK(teacher: TeacherRows, row: number, token: number): TokenScore {
  const start = row * teacher.k;
  const found = teacher.tokenIds.subarray(start, start + teacher.k).indexOf(token);
  if (found >= 0) return { logprob: teacher.logprobs[start + found]!, exact: true, best: found === 0 };
  const logprob = Math.min(teacher.logprobs[start + teacher.k - 1]!, teacher.tail[row]!);
  return { logprob, exact: false, best: false };
}
