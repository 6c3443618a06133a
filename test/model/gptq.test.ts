// Rounding with calibration: the factorisation, what it becomes without correlations, and that it lowers the error it is meant to lower.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { factorHessian } from '../../src/model/error-feedback.js';
import { quantiseWithFeedback } from '../../src/model/gptq.js';
import { dequantiseBlocks, quantiseBlocks } from '../../src/model/quantise-blocks.js';

/** Standard normal values from a fixed seed. */
function normals(size: number, seed: number): Float32Array {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from(
    { length: size },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

/** Σ x·xᵀ of `rows` inputs that share a few strong directions. */
function correlatedHessian(n: number, rows: number, seed: number): Float32Array {
  const directions = normals(4 * n, seed);
  const strengths = normals(4 * rows, seed + 1);
  const noise = normals(n * rows, seed + 2);
  const h = new Float32Array(n * n);
  for (let r = 0; r < rows; r += 1) {
    const x = Float32Array.from({ length: n }, (_, i) => {
      let sum = 0.3 * noise[r * n + i]!;
      for (let k = 0; k < 4; k += 1) sum += strengths[4 * r + k]! * directions[k * n + i]!;
      return sum;
    });
    for (let i = 0; i < n; i += 1) for (let j = 0; j < n; j += 1) h[i * n + j]! += x[i]! * x[j]!;
  }
  return h;
}

/** Σ over outputs of eᵀ·H·e. */
function weighedError(h: Float32Array, weight: Float32Array, found: Float32Array, outputs: number): number {
  const n = weight.length / outputs;
  let error = 0;
  for (let c = 0; c < outputs; c += 1) {
    for (let i = 0; i < n; i += 1) {
      const e = weight[i * outputs + c]! - found[i * outputs + c]!;
      for (let j = 0; j < n; j += 1) error += e * h[i * n + j]! * (weight[j * outputs + c]! - found[j * outputs + c]!);
    }
  }
  return error;
}

test('the factors multiply to the damped Hessian, over several panels', async () => {
  const n = 150;
  const h = correlatedHessian(n, 400, 1);
  const { shares, costs } = await factorHessian(h.slice(), n);
  let trace = 0;
  for (let i = 0; i < n; i += 1) trace += h[i * (n + 1)]!;
  const unit = (i: number, j: number): number => (i === j ? 1 : shares[i * n + j]!);
  for (let i = 0; i < n; i += 1) {
    for (let j = 0; j < n; j += 1) {
      if (j < i) assert.equal(shares[i * n + j], 0);
      let product = 0;
      for (let k = 0; k < n; k += 1) product += unit(i, k) * costs[k]! * unit(j, k);
      const wanted = h[i * n + j]! + (i === j ? (0.01 * trace) / n : 0);
      assert.ok(Math.abs(product - wanted) < (1e-4 * trace) / n, `[${i}, ${j}]: ${product} for ${wanted}`);
    }
  }
});

for (const bits of [4, 8] as const) {
  test(`${bits} bits: without correlations, and without any text, every weight goes to its nearest code`, async () => {
    const [inputs, outputs] = [72, 40];
    const weight = normals(inputs * outputs, 3);
    const identity = new Float32Array(inputs * inputs);
    for (let i = 0; i < inputs; i += 1) identity[i * (inputs + 1)] = 1;
    for (const hessian of [identity, new Float32Array(inputs * inputs)]) {
      const found = await quantiseWithFeedback(weight, outputs, bits, await factorHessian(hessian, inputs));
      const { codes, scales, zeros } = quantiseBlocks(weight, inputs, outputs, bits);
      assert.deepEqual({ codes: found.codes, scales: found.scales, zeros: found.zeros }, { codes, scales, zeros });
    }
  });

  test(`${bits} bits: what the layer puts out changes by less than half of rounding to the nearest code`, async () => {
    for (const [inputs, outputs] of [
      [64, 33],
      [150, 20],
    ] as const) {
      const weight = normals(inputs * outputs, 4);
      const h = correlatedHessian(inputs, 500, 5);
      const nearest = dequantiseBlocks(quantiseBlocks(weight, inputs, outputs, bits), inputs, outputs);
      const fed = await quantiseWithFeedback(weight, outputs, bits, await factorHessian(h.slice(), inputs));
      const [before, after] = [nearest, dequantiseBlocks(fed, inputs, outputs)].map((found) =>
        weighedError(h, weight, found, outputs),
      );
      assert.ok(after! < 0.5 * before!, `${inputs}: ${after} against ${before}`);
    }
  });
}

test('more outputs than are rounded at once give the same codes as each by itself', async () => {
  const [inputs, outputs] = [40, 2100];
  const weight = normals(inputs * outputs, 6);
  const feedback = await factorHessian(correlatedHessian(inputs, 100, 7), inputs);
  const whole = dequantiseBlocks(await quantiseWithFeedback(weight, outputs, 4, feedback), inputs, outputs);
  for (const column of [0, 2047, 2048, 2099]) {
    const alone = Float32Array.from({ length: inputs }, (_, i) => weight[i * outputs + column]!);
    const found = dequantiseBlocks(await quantiseWithFeedback(alone, 1, 4, feedback), inputs, 1);
    // The runtime adds up in another order.
    for (let i = 0; i < inputs; i += 1) assert.ok(Math.abs(found[i]! - whole[i * outputs + column]!) < 1e-5);
  }
});

test('inputs beyond float32 are refused, not rounded to anything', async () => {
  const hessian = new Float32Array(4).fill(1);
  hessian[3] = Number.POSITIVE_INFINITY;
  await assert.rejects(factorHessian(hessian, 2), { code: 'calibration-overflow' });
});
