// Fair ratios on a shared machine: A and B take turns in one process, and each pair gives one ratio. What disturbs one run
// of a pair mostly disturbs the other, so the median ratio is steadier than a ratio of medians.
import { performance } from 'node:perf_hooks';
import type { BenchResult } from './schema.js';

export interface InterleavedRuns {
  /** Seconds of each counted run. */
  readonly a: readonly number[];
  readonly b: readonly number[];
  /** a / b of each pair. */
  readonly ratios: readonly number[];
}

export interface InterleaveOptions {
  /** Counted pairs. */
  readonly runs: number;
  /** Pairs that are run before and not counted; default 1. */
  readonly warmup?: number;
  /** Milliseconds; tests set it. */
  readonly now?: () => number;
}

/** Runs A B, B A, A B, …: neither side is always the one that runs second. */
export async function interleave(
  a: () => Promise<unknown>,
  b: () => Promise<unknown>,
  options: InterleaveOptions,
): Promise<InterleavedRuns> {
  const now = options.now ?? (() => performance.now());
  const seconds = async (run: () => Promise<unknown>): Promise<number> => {
    const start = now();
    await run();
    return (now() - start) / 1000;
  };
  const times: { a: number[]; b: number[]; ratios: number[] } = { a: [], b: [], ratios: [] };
  const warmup = options.warmup ?? 1;
  for (let pair = 0; pair < warmup + options.runs; pair++) {
    const swapped = pair % 2 === 1;
    const first = await seconds(swapped ? b : a);
    const second = await seconds(swapped ? a : b);
    if (pair < warmup) continue;
    const [ofA, ofB] = swapped ? [second, first] : [first, second];
    times.a.push(ofA);
    times.b.push(ofB);
    times.ratios.push(ofA / ofB);
  }
  return times;
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('there is no median of nothing');
  const sorted = [...values].sort((x, y) => x - y);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Values of the runs of one metric → its result. */
export function summarise(
  values: readonly number[],
  about: Pick<BenchResult, 'metric' | 'unit' | 'better'> & { readonly bar?: number | null },
): BenchResult {
  const { metric, unit, better, bar = null } = about;
  const middle = median(values);
  const spread = { median: middle, min: Math.min(...values), max: Math.max(...values), runs: values.length };
  return { metric, value: middle, unit, better, ...spread, bar };
}
