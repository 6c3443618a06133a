// Text from a teacher, token by token, with a key/value cache: greedy or sampled from the released top-k.
// Zone: edge. Every generated token is one released, charged position.
import { RandomStream } from '../data/random.js';
import type { Accelerator, KeyValueCache } from './accelerator.js';
import type { Gate } from './gate.js';
import { askRows, forwardNext, releaseRows } from './pass.js';

export interface GenerateOptions {
  readonly maxNewTokens: number;
  /** Tokens to choose from at each step; must be what the gate's session was begun with. */
  readonly topK: number;
  /** 0: greedy (the gate's session then runs at temperature 1). */
  readonly temperature: number;
  /** Sample from the most likely tokens that make up this share of the released top-k (nucleus sampling); 1 when absent. */
  readonly topP?: number;
  readonly seed: number;
  /** Generation ends before one of these. */
  readonly stopIds: ReadonlySet<number>;
  readonly signal?: AbortSignal;
}

/** Yields new token ids as they are released. `promptIds` must not be empty. */
export async function* generate(
  accelerator: Accelerator,
  gate: Gate,
  promptIds: Int32Array,
  options: GenerateOptions,
): AsyncGenerator<number> {
  const random = new RandomStream('generate', options.seed);
  let cache: KeyValueCache | null = null;
  let next = promptIds;
  for (let count = 0; count < options.maxNewTokens && !options.signal?.aborted; count += 1) {
    const step: Awaited<ReturnType<typeof forwardNext>> = await forwardNext(accelerator, gate, next, cache);
    cache = step.cache;
    const last = Int32Array.of(next.length - 1);
    const temperature = options.temperature === 0 ? 1 : options.temperature;
    const rows = await askRows(accelerator, step.hidden, last, options.topK, temperature);
    const released = await releaseRows(gate, rows);
    const chosen = options.temperature === 0 ? 0 : sample(released.logprobs, random, options.topP ?? 1);
    const id = released.tokenIds[chosen]!;
    if (options.stopIds.has(id)) return;
    yield id;
    next = Int32Array.of(id);
  }
}

// An index drawn in proportion to exp(logprobs), which fall, among the first that make up the share topP.
function sample(logprobs: Float32Array, random: RandomStream, topP: number): number {
  let total = 0;
  for (const logprob of logprobs) total += Math.exp(logprob);
  let kept = 0;
  let count = 0;
  do kept += Math.exp(logprobs[count++]!);
  while (count < logprobs.length && kept < topP * total);
  let left = random.uniform() * kept;
  for (let i = 0; i < count; i += 1) {
    left -= Math.exp(logprobs[i]!);
    if (left < 0) return i;
  }
  return count - 1;
}
