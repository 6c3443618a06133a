// Learning rates against values worked out by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { learningRateAt, type ScheduleOptions } from '../../src/edge/train/schedule.js';

const base: ScheduleOptions = { learningRate: 1, maxSteps: 100, warmupRatio: 0.1, type: 'cosine', minRatio: 0.1 };
const near = (actual: number, expected: number): void =>
  assert.ok(Math.abs(actual - expected) < 1e-12, `${actual}, expected ${expected}`);

test('warm-up rises in a straight line and never starts at 0', () => {
  for (const type of ['cosine', 'linear', 'constant'] as const) {
    near(learningRateAt(1, { ...base, type }), 0.1);
    near(learningRateAt(5, { ...base, type }), 0.5);
    near(learningRateAt(10, { ...base, type }), 1);
  }
  near(learningRateAt(1, { ...base, warmupRatio: 0 }), 0.1 + 0.9 * 0.5 * (1 + Math.cos(Math.PI / 100)));
});

test('each shape at a third, half and the end of what follows', () => {
  const at = (step: number, type: ScheduleOptions['type']): number => learningRateAt(step, { ...base, type });
  for (const step of [11, 55, 100]) near(at(step, 'constant'), 1);
  near(at(40, 'cosine'), 0.1 + 0.9 * 0.75);
  near(at(55, 'cosine'), 0.55);
  near(at(100, 'cosine'), 0.1);
  near(at(40, 'linear'), 0.1 + (0.9 * 2) / 3);
  near(at(55, 'linear'), 0.55);
  near(at(100, 'linear'), 0.1);
  near(learningRateAt(100, { ...base, minRatio: 0 }), 0);
});

test('rates scale with the peak, and one step is enough for a run', () => {
  near(learningRateAt(55, { ...base, learningRate: 3e-4 }), 3e-4 * 0.55);
  near(learningRateAt(1, { ...base, maxSteps: 1 }), 1);
  near(learningRateAt(1, { ...base, maxSteps: 1, warmupRatio: 0 }), 0.1);
});
