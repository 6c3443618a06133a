// The share of a run that its own matrix products would take alone: both through the same runtime, taking turns.
import type { BenchOptions } from '../bench.js';
import { interleave, summarise } from '../interleave.js';
import type { BenchResult } from '../schema.js';
import type { ModelProducts } from './products.js';
import { flops, openProducts } from './sgemm.js';

export interface ShareOptions {
  /** Tokens that one run works through. */
  readonly tokens: number;
  readonly bar: number;
  readonly warmup: number;
  /** Whether the measured sessions' idle threads poll; the yardstick does the same. */
  readonly spin: boolean;
}

/** Results sgemm_share (with and without attention's products), tokens_per_s, gflops and gflops.sgemm. */
export async function measureShare(
  products: ModelProducts,
  run: () => Promise<void>,
  { tokens, bar, warmup, spin }: ShareOptions,
  { runs, log }: BenchOptions,
): Promise<readonly BenchResult[]> {
  const weights = await openProducts(products.weights, spin);
  const attention = await openProducts(products.attention, spin);
  const weightSeconds: number[] = [];
  const alone = async (): Promise<void> => {
    const started = performance.now();
    await weights.run();
    weightSeconds.push((performance.now() - started) / 1000);
    await attention.run();
  };
  log(`${runs} interleaved runs of the whole and of its matrix products …`);
  const times = await interleave(alone, run, { runs, warmup });
  await Promise.all([weights.close(), attention.close()]);
  const counted = weightSeconds.slice(-runs);
  const allFlops = flops(products.weights) + flops(products.attention);
  const share = { unit: 'ratio', better: 'higher' } as const;
  const rate = { unit: 'GFLOP/s', better: 'higher' } as const;
  return [
    summarise(times.ratios, { metric: 'sgemm_share', ...share, bar }),
    // Stricter: attention's own products count as overhead.
    summarise(
      counted.map((s, i) => s / times.b[i]!),
      { metric: 'sgemm_share.weights_only', ...share },
    ),
    summarise(
      times.b.map((s) => tokens / s),
      { metric: 'tokens_per_s', unit: 'tokens/s', better: 'higher' },
    ),
    summarise(
      times.b.map((s) => allFlops / s / 1e9),
      { metric: 'gflops', ...rate },
    ),
    summarise(
      times.a.map((s) => allFlops / s / 1e9),
      { metric: 'gflops.sgemm', ...rate },
    ),
  ];
}
