// Every differentiable operator against central differences.
import { describe, it } from 'node:test';
import { silu } from '../../src/graph/ops/activation.js';
import { attention, causalMask } from '../../src/graph/ops/attention.js';
import { add, div, exp, log, mul, neg, sqrt, sub } from '../../src/graph/ops/elementwise.js';
import { linear, matmul } from '../../src/graph/ops/matmul.js';
import { rmsNorm } from '../../src/graph/ops/norm.js';
import { reduceSum } from '../../src/graph/ops/reduce.js';
import { rotary } from '../../src/graph/ops/rotary.js';
import { concat, gatherRows, reshape, split, transpose } from '../../src/graph/ops/shape.js';
import { checkGradient, type GradientCase } from './check-gradient.js';

const ab = (a: number[], b: number[]): GradientCase['inputs'] => ({ a: { shape: a }, b: { shape: b } });
const tables = (positions: number, half: number) => ({
  cos: { data: Float32Array.from({ length: positions * half }, (_, i) => Math.cos(0.3 * i)), shape: [positions, half] },
  sin: { data: Float32Array.from({ length: positions * half }, (_, i) => Math.sin(0.3 * i)), shape: [positions, half] },
});
const positions = { data: BigInt64Array.from([0n, 1n, 2n, 0n, 1n, 2n]), shape: [2, 3] };

const cases: Record<string, GradientCase> = {
  add: { inputs: ab([3, 4], [3, 4]), build: (g, v) => add(g, v['a']!, v['b']!) },
  'add, broadcast': { inputs: ab([2, 3, 4], [3, 1]), build: (g, v) => add(g, v['a']!, v['b']!) },
  sub: { inputs: ab([3, 4], [4]), build: (g, v) => sub(g, v['a']!, v['b']!) },
  mul: { inputs: ab([3, 4], [3, 1]), build: (g, v) => mul(g, v['a']!, v['b']!) },
  div: {
    inputs: { a: { shape: [3, 4] }, b: { shape: [3, 1], low: 1, high: 2 } },
    build: (g, v) => div(g, v['a']!, v['b']!),
  },
  neg: { inputs: { a: { shape: [5] } }, build: (g, v) => neg(g, v['a']!) },
  sqrt: { inputs: { a: { shape: [5], low: 0.5, high: 2 } }, build: (g, v) => sqrt(g, v['a']!) },
  exp: { inputs: { a: { shape: [5] } }, build: (g, v) => exp(g, v['a']!) },
  log: { inputs: { a: { shape: [5], low: 0.5, high: 2 } }, build: (g, v) => log(g, v['a']!) },
  'reduceSum, kept': { inputs: { a: { shape: [2, 3, 4] } }, build: (g, v) => reduceSum(g, v['a']!, [1], true) },
  'reduceSum, dropped': { inputs: { a: { shape: [2, 3, 4] } }, build: (g, v) => reduceSum(g, v['a']!, [0, 2], false) },
  reshape: { inputs: { a: { shape: [2, 6] } }, build: (g, v) => reshape(g, v['a']!, [3, 4]) },
  transpose: { inputs: { a: { shape: [2, 3, 4] } }, build: (g, v) => transpose(g, v['a']!, [2, 0, 1]) },
  concat: { inputs: ab([2, 3], [2, 2]), build: (g, v) => concat(g, [v['a']!, v['b']!], 1) },
  split: {
    inputs: { a: { shape: [2, 5] } },
    build: (g, v) => {
      const [x, y] = split(g, v['a']!, [2, 3], 1);
      return concat(g, [mul(g, y!, y!), x!], 1);
    },
  },
  'gatherRows, repeated ids': {
    inputs: { a: { shape: [5, 3] } },
    fixed: { ids: { data: Int32Array.of(1, 4, 1, 0, 1, 4), shape: [6] } },
    build: (g, v) => gatherRows(g, v['a']!, v['ids']!),
  },
  matmul: { inputs: ab([3, 4], [4, 2]), build: (g, v) => matmul(g, v['a']!, v['b']!) },
  'matmul, transA': { inputs: ab([4, 3], [4, 2]), build: (g, v) => matmul(g, v['a']!, v['b']!, { transA: true }) },
  'matmul, transB, alpha': {
    inputs: ab([3, 4], [2, 4]),
    build: (g, v) => matmul(g, v['a']!, v['b']!, { transB: true, alpha: 0.5 }),
  },
  'matmul, both transposed': {
    inputs: ab([4, 3], [2, 4]),
    build: (g, v) => matmul(g, v['a']!, v['b']!, { transA: true, transB: true }),
  },
  'matmul, batched': {
    inputs: ab([2, 3, 4], [2, 5, 4]),
    build: (g, v) => matmul(g, v['a']!, v['b']!, { transB: true, alpha: 0.3 }),
  },
  'linear, leading axes': { inputs: ab([2, 3, 4], [5, 4]), build: (g, v) => linear(g, v['a']!, v['b']!) },
  rmsNorm: { inputs: ab([3, 8], [8]), build: (g, v) => rmsNorm(g, v['a']!, v['b']!, 1e-5), step: 3e-3 },
  silu: { inputs: { a: { shape: [10], low: -3, high: 3 } }, build: (g, v) => silu(g, v['a']!) },
  rotary: {
    inputs: { a: { shape: [2, 2, 3, 8] } },
    fixed: { positions, ...tables(3, 4) },
    build: (g, v) => rotary(g, v['a']!, v['positions']!, { cos: v['cos']!, sin: v['sin']! }),
  },
  'attention, grouped heads, packed documents, window': {
    inputs: { q: { shape: [6, 16] }, k: { shape: [6, 8] }, v: { shape: [6, 8] } },
    fixed: {
      positions,
      segments: { data: Int32Array.of(1, 1, 1, 1, 2, 2), shape: [2, 3] },
      ...tables(3, 2),
    },
    build: (g, v) =>
      attention(
        g,
        { q: v['q']!, k: v['k']!, v: v['v']! },
        { heads: 4, kvHeads: 2, headDim: 4 },
        { batch: 2, tokens: 3 },
        {
          mask: causalMask(g, v['segments']!, 2, 3, 2),
          positions: v['positions']!,
          tables: { cos: v['cos']!, sin: v['sin']! },
        },
      ),
  },
};

describe('gradients agree with central differences', () => {
  for (const [name, test] of Object.entries(cases)) it(name, () => checkGradient(test));
});
