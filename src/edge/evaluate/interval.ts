// 95 % intervals of a measure over documents. Zone: edge. Shares: Wilson's score interval, which keeps its width at 0 and 1.
// Means and ratios: percentile bootstrap over documents (Efron & Tibshirani 1993, chapter 13), seeded, so a rerun gives the same digits.
import { RandomStream } from '../data/random.js';

export type IntervalMethod = 'wilson' | 'bootstrap';

export interface Interval {
  readonly low: number;
  readonly high: number;
  readonly method: IntervalMethod;
}

/** What a document adds to a measure: Σ sum / Σ weight over documents is its value. */
export interface Share {
  readonly sum: number;
  readonly weight: number;
}

export const BOOTSTRAP_RESAMPLES = 1000;
/** Φ⁻¹(0.975). */
const Z = 1.959963984540054;

export function ratioOf(shares: readonly Share[]): number {
  let [sum, weight] = [0, 0];
  for (const share of shares) {
    sum += share.sum;
    weight += share.weight;
  }
  return sum / weight;
}

/** E. B. Wilson 1927, for `hits` out of `count`. */
export function wilson(hits: number, count: number): Interval {
  const p = hits / count;
  const scale = 1 + Z ** 2 / count;
  const middle = (p + Z ** 2 / (2 * count)) / scale;
  const half = (Z / scale) * Math.sqrt((p * (1 - p)) / count + Z ** 2 / (4 * count ** 2));
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half), method: 'wilson' };
}

/** 2.5th and 97.5th percentile of the ratio over resampled documents; null for fewer than two of them. */
export function bootstrap(shares: readonly Share[], seed: number): Interval | null {
  const count = shares.length;
  if (count < 2) return null;
  const random = new RandomStream('evaluate/bootstrap', seed);
  const ratios = new Float64Array(BOOTSTRAP_RESAMPLES);
  for (let i = 0; i < BOOTSTRAP_RESAMPLES; i += 1) {
    let [sum, weight] = [0, 0];
    for (let draw = 0; draw < count; draw += 1) {
      const share = shares[random.below(count)]!;
      sum += share.sum;
      weight += share.weight;
    }
    ratios[i] = sum / weight;
  }
  ratios.sort();
  return { low: percentile(ratios, 0.025), high: percentile(ratios, 0.975), method: 'bootstrap' };
}

// Linear between the two nearest of the sorted values.
function percentile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (at - below) * (sorted[above]! - sorted[below]!);
}
