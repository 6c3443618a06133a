// Divergences as divergences: never negative, bounded where theory says so, zero for a student that equals its teacher, finite at
// the ends of float32, and the T² convention. Values and gradients against references are in loss.test.ts.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { divergenceOf, LOSSES, type LossName } from '../../src/graph/ops/divergence.js';
import { failsWith } from '../model/fixtures.js';
import { bucketsOf, caseOf, DEFINITIONS, type LossCase, type OpenLoss, openLoss, TESTED } from './loss-case.js';

const vocabulary = 9;
const k = 3;
const shape = { rows: 1, width: vocabulary, vocabulary, k };

/** Float32 logits up to 12 apart from 0: sharp and flat rows. */
const logits = fc
  .tuple(
    fc.constantFrom(0.1, 1, 4, 12),
    fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: vocabulary, maxLength: vocabulary }),
  )
  .map(([scale, row]) => row.map((z) => Math.fround(z * scale)));

/** The most that a divergence can be; Infinity for the KLs. */
function bound(name: LossName, x: number): number {
  if (name === 'tvd') return 1;
  if (name === 'skew_kl' || name === 'skew_reverse_kl') return -Math.log(x);
  if (name === 'jsd' && x > 0 && x < 1) return -x * Math.log(x) - (1 - x) * Math.log(1 - x);
  return Number.POSITIVE_INFINITY;
}

for (const [name, parameter] of TESTED) {
  const divergence = divergenceOf(name, parameter);
  const x = parameter ?? Number.NaN;
  describe(divergence.label, () => {
    let loss: OpenLoss;
    before(async () => {
      loss = await openLoss(shape, { divergence, kdRatio: 1, temperature: 1, chunkRows: 1 });
    });
    after(() => loss.close());

    it('property: is the definition, never negative, within its bound, with a gradient that sums to 0', async () => {
      await fc.assert(
        fc.asyncProperty(logits, logits, async (student, teacher) => {
          const c = caseOf(student, teacher, k);
          const { p, q } = bucketsOf(c, 0, 1);
          const { kd, dHidden } = await loss.run(c);
          const expected = DEFINITIONS[name](p, q, x);
          assert.ok(Math.abs(kd - expected) <= 1e-5 * Math.max(1, expected), `${kd}, reference ${expected}`);
          // Logits of 12 and their normaliser carry a rounding of 1e-6 in float32.
          assert.ok(kd >= -3e-6, `${kd}`);
          assert.ok(kd <= bound(name, x) + 3e-6, `${kd}`);
          const size = dHidden.reduce((sum, g) => sum + Math.abs(g), 0);
          assert.ok(Math.abs(dHidden.reduce((sum, g) => sum + g, 0)) <= 1e-5 * Math.max(1, size));
        }),
        { numRuns: 150, seed: 1 },
      );
    });

    it('property: is zero for a student that equals its teacher, and so is its gradient', async () => {
      await fc.assert(
        fc.asyncProperty(logits, async (row) => {
          const { kd, dHidden } = await loss.run(caseOf(row, row, k));
          assert.ok(Math.abs(kd) <= 3e-6, `${kd}`);
          // Total variation has a kink there: rounding decides on which side of it a bucket lies.
          if (name !== 'tvd') for (const g of dHidden) assert.ok(Math.abs(g) <= 3e-6, `${g}`);
        }),
        { numRuns: 100, seed: 2 },
      );
    });

    it('keeps the digits of tails that 1 − Σ would lose in float32', async () => {
      const apart = (gap: number): number[] => [3, 2.5, 2, ...Array<number>(vocabulary - k).fill(2.5 - gap)];
      for (const [mine, theirs] of [
        [20, 12],
        [12, 20],
        [25, 18],
      ] as const) {
        const c = caseOf(apart(mine), apart(theirs), k);
        const { p, q } = bucketsOf(c, 0, 1);
        const expected = DEFINITIONS[name](p, q, x);
        const { kd, dHidden } = await loss.run(c);
        assert.ok(Math.abs(kd - expected) <= 3e-7, `${kd}, reference ${expected}`);
        // Outside the top-k, every gradient is the tail's share of it.
        const h = 1e-4;
        const at = (change: number): number => {
          const moved = caseOf(
            apart(mine).map((z, v) => (v === 8 ? z + change : z)),
            apart(theirs),
            k,
          );
          const buckets = bucketsOf(moved, 0, 1);
          return DEFINITIONS[name](buckets.p, buckets.q, x);
        };
        const numeric = (at(h) - at(-h)) / (2 * h);
        assert.ok(Math.abs(dHidden[8]! - numeric) <= 1e-9 + 1e-3 * Math.abs(numeric), `${dHidden[8]} ${numeric}`);
      }
    });

    it('stays finite where probabilities leave float32, and ignores rows that do not count', async () => {
      const sharp = (at: number): number[] => Array.from({ length: vocabulary }, (_, v) => (v === at ? 300 : v));
      const cases: LossCase[] = [
        caseOf(sharp(0), sharp(0), k),
        caseOf(sharp(0), sharp(8), k),
        { ...caseOf(sharp(0), sharp(8), k), tail: Float64Array.of(-20) },
        { ...caseOf(sharp(8), sharp(0), k), logprobs: Float64Array.of(0, -65504, -65504), tail: Float64Array.of(-20) },
      ];
      for (const c of cases) {
        // The cache's smallest tail: what it keeps is finite.
        const floored = { ...c, tail: c.tail.map((tail) => Math.max(-20, tail)) };
        const { kd, dHidden } = await loss.run(floored);
        assert.ok(Number.isFinite(kd) && kd >= -3e-6, `${kd}`);
        for (const g of dHidden) assert.ok(Number.isFinite(g), `${g}`);
      }
      const padding: LossCase = {
        ...caseOf(sharp(0), sharp(8), k),
        rowWeight: Float64Array.of(0),
        ids: new Int32Array(k),
        logprobs: new Float64Array(k),
        tail: new Float64Array(1),
      };
      const { kd, dHidden } = await loss.run(padding);
      assert.equal(Math.abs(kd), 0);
      for (const g of dHidden) assert.equal(Math.abs(g), 0);
    });
  });
}

it('the factor T² keeps the size of the gradient as T grows; that of total variation grows with T', async () => {
  const student = [1, -2, 0.5, 2, -1, 0, 0.3, -0.7, 1.4];
  const teacher = [-1, 2, 1, 0.2, -2, 1.5, 0, 0.8, -0.4];
  const norm = async (name: LossName, parameter: number | undefined, temperature: number): Promise<number> => {
    const divergence = divergenceOf(name, parameter);
    const loss = await openLoss(shape, { divergence, kdRatio: 1, temperature, chunkRows: 1 });
    const { dHidden } = await loss.run(caseOf(student, teacher, k, temperature));
    await loss.close();
    return Math.hypot(...dHidden);
  };
  for (const [name, parameter] of TESTED) {
    const growth = (await norm(name, parameter, 60)) / (await norm(name, parameter, 30));
    assert.ok(Math.abs(growth - (name === 'tvd' ? 2 : 1)) < 0.05, `${name}: ${growth}`);
  }
});

it('every listed loss is tested here, has a label, and refuses parameters that it cannot take', () => {
  assert.deepEqual(new Set(TESTED.map(([name]) => name)), new Set(Object.keys(LOSSES)));
  assert.equal(divergenceOf('jsd').label, 'jsd(beta=0.5)');
  assert.equal(divergenceOf('skew_kl').label, 'skew_kl(skew_alpha=0.1)');
  assert.equal(divergenceOf('tvd').label, 'tvd');
  for (const [name, parameter] of [
    ['jsd', -0.1],
    ['jsd', 1.1],
    ['jsd', Number.NaN],
    ['skew_kl', 0],
    ['skew_reverse_kl', 1],
    ['forward_kl', 0.5],
  ] as const)
    assert.throws(() => divergenceOf(name, parameter), failsWith('loss-parameter', name), `${name} ${parameter}`);
});
