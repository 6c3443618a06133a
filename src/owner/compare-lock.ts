// Does a lock leave a model's outputs alone? Compares the log-probabilities of the original and of the locked model. Zone: owner.
// DESIGN section 3: equal to 1e-3 absolute in float32, same most likely token. Where the parts of a model run is the caller's business.

/** Token ids of one text, from its start → log-probabilities [tokens, vocabulary], both in the original vocabulary. */
export type LogProbabilities = (ids: Int32Array) => Promise<Float32Array>;

export interface ModelPair {
  readonly original: LogProbabilities;
  readonly locked: LogProbabilities;
  readonly vocabSize: number;
}

export interface CompareOptions {
  /** How many of the original's most likely tokens are also reported apart: those that a licence releases. */
  readonly topK: number;
  /** Differences up to this are rounding. */
  readonly tolerance: number;
  readonly onTokens?: (tokens: number) => void;
}

export interface LockComparison {
  readonly tokens: number;
  /** Largest |Δ log-probability| over the original's top-k, and over the whole vocabulary; Infinity when one is not a number. */
  readonly maxDeltaTopK: number;
  readonly maxDelta: number;
  /** Share of positions with the same most likely token. */
  readonly agreement: number;
  /** Positions where it is another one although the original prefers its own by more than twice the tolerance. */
  readonly flips: number;
  /** KL(original‖locked), nats per token. */
  readonly kl: number;
  /** Whether the tolerance holds over the whole vocabulary and nothing flips. */
  readonly equal: boolean;
}

/** Runs both models over `windows` of token ids. */
export async function compareLocked(
  { original, locked, vocabSize }: ModelPair,
  windows: readonly Int32Array[],
  { topK, tolerance, onTokens }: CompareOptions,
): Promise<LockComparison> {
  const sums = { tokens: 0, maxDelta: 0, maxDeltaTopK: 0, same: 0, flips: 0, kl: 0 };
  for (const ids of windows) {
    const [before, after] = [await original(ids), await locked(ids)];
    for (let row = 0; row < ids.length; row++) {
      const range = [row * vocabSize, (row + 1) * vocabSize] as const;
      const found = compareRow(before.subarray(...range), after.subarray(...range), topK);
      sums.maxDelta = Math.max(sums.maxDelta, found.maxDelta);
      sums.maxDeltaTopK = Math.max(sums.maxDeltaTopK, found.maxDeltaTopK);
      sums.kl += found.kl;
      if (found.lost === 0) sums.same++;
      if (found.lost > 2 * tolerance) sums.flips++;
    }
    sums.tokens += ids.length;
    onTokens?.(sums.tokens);
  }
  const { tokens, maxDelta, maxDeltaTopK, same, flips, kl } = sums;
  const equal = tokens > 0 && maxDelta <= tolerance && flips === 0;
  return { tokens, maxDeltaTopK, maxDelta, agreement: same / tokens, flips, kl: kl / tokens, equal };
}

interface RowComparison {
  readonly maxDelta: number;
  readonly maxDeltaTopK: number;
  readonly kl: number;
  /** By how much the original prefers its own most likely token to the locked model's; 0 when it is the same. */
  readonly lost: number;
}

function compareRow(before: Float32Array, after: Float32Array, topK: number): RowComparison {
  const least = kthLargest(before, topK);
  let [maxDelta, maxDeltaTopK, kl] = [0, 0, 0];
  let [first, firstLocked] = [0, 0];
  for (let token = 0; token < before.length; token++) {
    const [p, q] = [before[token]!, after[token]!];
    const difference = Math.abs(p - q);
    // NaN compares false with everything, so it would pass for no difference.
    const delta = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (delta > maxDelta) maxDelta = delta;
    if (p >= least && delta > maxDeltaTopK) maxDeltaTopK = delta;
    kl += Math.exp(p) * (p - q);
    if (p > before[first]!) first = token;
    if (q > after[firstLocked]!) firstLocked = token;
  }
  return { maxDelta, maxDeltaTopK, kl, lost: before[first]! - before[firstLocked]! };
}

function kthLargest(row: Float32Array, k: number): number {
  return row.slice().sort()[Math.max(0, row.length - k)]!;
}
