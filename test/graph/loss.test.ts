// The distillation loss against a float64 reference, its gradients against central differences of that reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Graph, type OutputSpec, type Value } from '../../src/graph/graph.js';
import { divergenceOf } from '../../src/graph/ops/divergence.js';
import { lossGraph, openLoss, type ReferenceOptions, reference, someCase, TESTED } from './loss-case.js';

function assertClose(actual: number, expected: number, what: string): void {
  assert.ok(
    Math.abs(actual - expected) <= 2e-5 * Math.max(1, Math.abs(expected)),
    `${what}: ${actual}, reference ${expected}`,
  );
}

// kd, ce and both gradients of the mixed loss, every element.
async function check(options: ReferenceOptions, chunkRows: number): Promise<void> {
  const c = someCase();
  const { loss, parameter, kdRatio, temperature } = options;
  const graph = await openLoss(c, { divergence: divergenceOf(loss, parameter), kdRatio, temperature, chunkRows });
  const out = await graph.run(c);
  await graph.close();
  const expected = reference(c, options);
  assertClose(out.ce, expected.ce, 'ce');
  if (kdRatio > 0) assertClose(out.kd, expected.kd, 'kd');
  const h = 1e-5;
  for (const [values, gradient] of [
    [c.hidden, out.dHidden],
    [c.weight, out.dWeight],
  ] as const) {
    gradient.forEach((g, i) => {
      const kept = values[i]!;
      values[i] = kept + h;
      const above = reference(c, options).loss;
      values[i] = kept - h;
      const below = reference(c, options).loss;
      values[i] = kept;
      assertClose(g, (above - below) / (2 * h), `d${values === c.hidden ? 'hidden' : 'weight'}[${i}]`);
    });
  }
}

describe('distillation loss', () => {
  for (const [kdRatio, temperature, chunkRows] of [
    [1, 1, 4],
    [0.5, 1, 2],
    [0, 1, 4],
    [1, 2, 2],
    [0.7, 0.5, 4],
  ] as const)
    it(`forward_kl, kd_ratio ${kdRatio}, temperature ${temperature}, ${chunkRows} rows at a time`, () =>
      check({ loss: 'forward_kl', kdRatio, temperature }, chunkRows));

  for (const [loss, parameter] of TESTED.slice(1))
    it(`${divergenceOf(loss, parameter).label}, alone and mixed, at temperatures 1 and 2`, async () => {
      await check({ loss, parameter, kdRatio: 1, temperature: 1 }, 4);
      await check({ loss, parameter, kdRatio: 0.6, temperature: 1 }, 2);
      await check({ loss, parameter, kdRatio: 0.6, temperature: 2 }, 2);
    });

  it('makes no more tensors over the vocabulary for any divergence than for forward KL', () => {
    class Wide extends Graph {
      count = 0;
      override emit(
        opType: string,
        inputs: readonly (Value | null)[],
        outputs: readonly OutputSpec[],
        ...rest: [Parameters<Graph['emit']>[3]?, string?]
      ): Value[] {
        this.count += outputs.filter(({ shape }) => shape.at(-1) === shapeOf.vocabulary).length;
        return super.emit(opType, inputs, outputs, ...rest);
      }
    }
    const shapeOf = { rows: 4, width: 3, vocabulary: 1000, k: 5 };
    const wide = (loss: (typeof TESTED)[number], kdRatio: number, temperature: number): number => {
      const options = { divergence: divergenceOf(...loss), kdRatio, temperature, chunkRows: 4 };
      return (lossGraph(shapeOf, options, new Wide()) as Wide).count;
    };
    // Logits, softmax, what is outside the top-k, its gradient, and that with the top-k's; with cross-entropy its label.
    for (const loss of TESTED) {
      assert.equal(wide(loss, 1, 1), 5, loss[0]);
      assert.equal(wide(loss, 0.5, 1), 6, loss[0]);
      assert.equal(wide(loss, 0.5, 2), 10, loss[0]);
    }
  });
});
