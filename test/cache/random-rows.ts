// Teacher rows for tests: softmax over random logits, top k by magnitude, as an enclave would release them.

import { createTeacherRows, type TeacherRows } from '../../src/edge/cache/rows.js';
import type { RandomStream } from '../../src/edge/data/random.js';

/** `sharpness` scales the logits: 0 is uniform, 30 nearly certain. */
export function randomRows(
  random: RandomStream,
  rows: number,
  k: number,
  vocabSize: number,
  sharpness: number,
): TeacherRows {
  const tokenIds = new Int32Array(rows * k);
  const logprobs = new Float32Array(rows * k);
  for (let row = 0; row < rows; row++) {
    const logits = Float64Array.from({ length: vocabSize }, () => sharpness * random.normal());
    const highest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const normaliser = highest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
    const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]!);
    for (let i = 0; i < k; i++) {
      tokenIds[row * k + i] = order[i]!;
      logprobs[row * k + i] = logits[order[i]!]! - normaliser;
    }
  }
  return createTeacherRows(k, tokenIds, logprobs);
}
