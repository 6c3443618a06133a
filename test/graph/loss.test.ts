// The distillation loss against a float64 reference, its gradients against central differences of that reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Graph } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { distillationLoss } from '../../src/graph/ops/loss.js';
import { type Feeds, Session } from '../../src/graph/runtime.js';
import { lcg } from './check-gradient.js';

const rows = 4;
const width = 3;
const vocabulary = 7;
const k = 3;

interface Problem {
  hidden: Float64Array;
  weight: Float64Array;
  labels: Int32Array;
  rowWeight: Float64Array;
  ids: Int32Array;
  logprobs: Float64Array;
  tail: Float64Array;
}

function logSoftmax(z: number[]): number[] {
  const top = Math.max(...z);
  const norm = top + Math.log(z.reduce((sum, x) => sum + Math.exp(x - top), 0));
  return z.map((x) => x - norm);
}

/** kd, ce and the mixed loss in float64, straight from the definitions. */
function reference(p: Problem, kdRatio: number, temperature: number): { kd: number; ce: number; loss: number } {
  let kd = 0;
  let ce = 0;
  for (let r = 0; r < rows; r += 1) {
    const logits = Array.from({ length: vocabulary }, (_, v) => {
      let sum = 0;
      for (let d = 0; d < width; d += 1) sum += p.hidden[r * width + d]! * p.weight[v * width + d]!;
      return sum;
    });
    ce -= p.rowWeight[r]! * logSoftmax(logits)[p.labels[r]!]!;
    const soft = logSoftmax(logits.map((z) => z / temperature));
    let outside = 1;
    for (let i = 0; i < k; i += 1) {
      const logq = soft[p.ids[r * k + i]!]!;
      const logp = p.logprobs[r * k + i]!;
      outside -= Math.exp(logq);
      kd += p.rowWeight[r]! * Math.exp(logp) * (logp - logq);
    }
    kd += p.rowWeight[r]! * Math.exp(p.tail[r]!) * (p.tail[r]! - Math.log(outside));
  }
  return { kd, ce, loss: (1 - kdRatio) * ce + kdRatio * temperature ** 2 * kd };
}

function problem(): Problem {
  const random = lcg(3);
  const fill = (n: number, scale: number): Float64Array =>
    Float64Array.from({ length: n }, () => Math.fround((random() - 0.5) * scale));
  const logprobs = new Float64Array(rows * k);
  const tail = new Float64Array(rows);
  for (let r = 0; r < rows; r += 1) {
    const z = logSoftmax(Array.from({ length: k + 1 }, () => random() * 3));
    for (let i = 0; i < k; i += 1) logprobs[r * k + i] = Math.fround(z[i]!);
    tail[r] = Math.fround(z[k]!);
  }
  return {
    hidden: fill(rows * width, 3),
    weight: fill(vocabulary * width, 3),
    labels: Int32Array.of(0, 5, 2, 6),
    rowWeight: Float64Array.of(1 / 3, 1 / 3, 0, 1 / 3).map(Math.fround),
    // Row 0: the label is among the teacher's top-k; row 1: it is not.
    ids: Int32Array.of(0, 3, 6, 1, 2, 4, 0, 1, 2, 4, 3, 6),
    logprobs,
    tail,
  };
}

async function run(p: Problem, kdRatio: number, temperature: number, chunkRows: number) {
  const graph = new Graph();
  const input = (name: string, n: number): ReturnType<Graph['input']> => graph.input(name, 'float32', [rows, n], true);
  const hidden = input('hidden', width);
  const weight = graph.input('weight', 'float32', [vocabulary, width], true);
  const loss = distillationLoss(
    graph,
    {
      hidden,
      weight,
      labels: graph.input('labels', 'int32', [rows, 1]),
      rowWeight: graph.input('rowWeight', 'float32', [rows, 1]),
      teacher: {
        ids: graph.input('ids', 'int32', [rows, k]),
        logprobs: graph.input('logprobs', 'float32', [rows, k]),
        tail: graph.input('tail', 'float32', [rows, 1]),
      },
    },
    { kdRatio, temperature, chunkRows },
  );
  for (const [name, value] of Object.entries(loss)) graph.output(name, value);
  const session = await Session.open(encodeModel(graph));
  const feeds: Feeds = {
    hidden: { data: Float32Array.from(p.hidden), shape: [rows, width] },
    weight: { data: Float32Array.from(p.weight), shape: [vocabulary, width] },
    labels: { data: p.labels, shape: [rows, 1] },
    rowWeight: { data: Float32Array.from(p.rowWeight), shape: [rows, 1] },
    ids: { data: p.ids, shape: [rows, k] },
    logprobs: { data: Float32Array.from(p.logprobs), shape: [rows, k] },
    tail: { data: Float32Array.from(p.tail), shape: [rows, 1] },
  };
  const used = Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
  const out = await session.run(used);
  await session.close();
  return Object.fromEntries(Object.entries(out).map(([name, t]) => [name, t.data as Float32Array]));
}

function assertClose(actual: number, expected: number, what: string): void {
  assert.ok(
    Math.abs(actual - expected) <= 2e-5 * Math.max(1, Math.abs(expected)),
    `${what}: ${actual}, reference ${expected}`,
  );
}

describe('distillation loss', () => {
  for (const [kdRatio, temperature, chunkRows] of [
    [1, 1, 4],
    [0.5, 1, 2],
    [0, 1, 4],
    [1, 2, 2],
    [0.7, 0.5, 4],
  ] as const) {
    it(`kd_ratio ${kdRatio}, temperature ${temperature}, ${chunkRows} rows at a time`, async () => {
      const p = problem();
      const out = await run(p, kdRatio, temperature, chunkRows);
      const expected = reference(p, kdRatio, temperature);
      assertClose(out['ce']![0]!, expected.ce, 'ce');
      if (kdRatio > 0) assertClose(out['kd']![0]!, expected.kd, 'kd');
      const h = 1e-5;
      for (const [name, gradient] of [
        ['hidden', out['dHidden']!],
        ['weight', out['dWeight']!],
      ] as const) {
        gradient.forEach((g, i) => {
          const kept = p[name][i]!;
          p[name][i] = kept + h;
          const above = reference(p, kdRatio, temperature).loss;
          p[name][i] = kept - h;
          const below = reference(p, kdRatio, temperature).loss;
          p[name][i] = kept;
          assertClose(g, (above - below) / (2 * h), `d${name}[${i}]`);
        });
      }
    });
  }

  it('is zero, with a zero gradient, for a student that equals its teacher', async () => {
    const p = problem();
    for (let r = 0; r < rows; r += 1) {
      const logits = Array.from({ length: vocabulary }, (_, v) => {
        let sum = 0;
        for (let d = 0; d < width; d += 1) sum += p.hidden[r * width + d]! * p.weight[v * width + d]!;
        return sum;
      });
      const own = logSoftmax(logits);
      let outside = 1;
      for (let i = 0; i < k; i += 1) {
        p.logprobs[r * k + i] = own[p.ids[r * k + i]!]!;
        outside -= Math.exp(own[p.ids[r * k + i]!]!);
      }
      p.tail[r] = Math.log(outside);
    }
    const out = await run(p, 1, 1, 4);
    assert.ok(Math.abs(out['kd']![0]!) < 1e-6);
    for (const g of out['dHidden']!) assert.ok(Math.abs(g) < 1e-6);
  });
});
