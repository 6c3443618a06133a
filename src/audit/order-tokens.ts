// The order of a head's rows, found from released answers: at a recorded hidden state every row of the head gives a log-probability, and the
// enclave has released some of them with their tokens. A token's row is the one that says the same wherever the token was named.
// Zone: owner (as attacker).
import { multiply } from '../graph/product.js';
import { bestAssignment } from './assignment.js';
import type { HeadRows } from './fit-head.js';
import { ASSIGNED } from './match-rows.js';

/** Rows that a token is compared at. */
const COMPARED = 48;
/** Squared nats; farther off is no better than unlike. */
const UNLIKE = 1;

/** Token → row of `head` [vocabulary, width]; −1 where no answer named the token and the vocabulary is too large for the rest to follow. */
export async function orderByAnswers(
  head: Float32Array,
  asked: readonly HeadRows[],
  width: number,
): Promise<Int32Array> {
  const n = head.length / width;
  const costs: (Float32Array | undefined)[] = Array.from({ length: n });
  const counts = new Int32Array(n);
  for (const { headInput, released } of asked) {
    const { rows, k, tokenIds, logprobs } = released;
    const own = await multiply(headInput, head, { rows, inner: width, columns: n, transB: true });
    for (let row = 0; row < rows; row += 1) {
      const said = logSoftmax(own.subarray(row * n, (row + 1) * n));
      for (let i = row * k; i < (row + 1) * k; i += 1) {
        const token = tokenIds[i]!;
        if (counts[token] === COMPARED) continue;
        counts[token]! += 1;
        costs[token] ??= new Float32Array(n);
        const cost = costs[token]!;
        for (let j = 0; j < n; j += 1) cost[j]! += Math.min((said[j]! - logprobs[i]!) ** 2, UNLIKE);
      }
    }
  }
  if (n > ASSIGNED) return Int32Array.from(costs, (cost) => (cost === undefined ? -1 : leastOf(cost)));
  const scores = new Float64Array(n * n);
  costs.forEach((cost, token) => {
    cost?.forEach((x, j) => {
      scores[token * n + j] = -x;
    });
  });
  return bestAssignment(scores, n);
}

function logSoftmax(logits: Float32Array): Float32Array {
  const top = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, x) => total + Math.exp(x - top), 0);
  return logits.map((x) => x - top - Math.log(sum));
}

function leastOf(values: Float32Array): number {
  let least = 0;
  for (let i = 1; i < values.length; i += 1) if (values[i]! < values[least]!) least = i;
  return least;
}
