// Learning rate over a run: linear warm-up, then cosine, linear or constant.
// Zone: edge.

export interface ScheduleOptions {
  readonly learningRate: number;
  readonly maxSteps: number;
  /** Share of maxSteps spent rising from 0. */
  readonly warmupRatio: number;
  readonly type: 'cosine' | 'linear' | 'constant';
  /** The rate falls to this share of its peak. */
  readonly minRatio: number;
}

/** Learning rate of step 1..maxSteps. */
export function learningRateAt(
  step: number,
  { learningRate, maxSteps, warmupRatio, type, minRatio }: ScheduleOptions,
): number {
  const warmup = Math.ceil(maxSteps * warmupRatio);
  if (step <= warmup) return (learningRate * step) / Math.max(1, warmup);
  if (type === 'constant') return learningRate;
  const done = Math.min(1, (step - warmup) / Math.max(1, maxSteps - warmup));
  const left = type === 'linear' ? 1 - done : 0.5 * (1 + Math.cos(Math.PI * done));
  return learningRate * (minRatio + (1 - minRatio) * left);
}
