// Rounding with calibration: the factorisation, what it becomes without correlations, and that it lowers the error it is meant to lower.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { improveRounding, type RoundedColumns } from '../../src/model/coordinate-descent.js';
import { correctedWeight, factorHessian } from '../../src/model/error-feedback.js';
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
  const unit = (i: number, j: number): number => (i < j ? shares[i * n + j]! : Number(i === j));
  for (let i = 0; i < n; i += 1) {
    for (let j = 0; j < n; j += 1) {
      if (j < i) assert.equal(shares[i * n + j], h[i * n + j], 'H stays below the diagonal');
      let product = 0;
      for (let k = 0; k < n; k += 1) product += unit(i, k) * costs[k]! * unit(j, k);
      const wanted = h[i * n + j]! + (i === j ? (0.01 * trace) / n : 0);
      assert.ok(Math.abs(product - wanted) < (1e-4 * trace) / n, `[${i}, ${j}]: ${product} for ${wanted}`);
    }
  }
});

for (const bits of [4, 8] as const) {
  test(`${bits} bits: without correlations, and without any text, no output is farther than at its nearest codes`, async () => {
    const [inputs, outputs] = [72, 40];
    const weight = normals(inputs * outputs, 3);
    const identity = new Float32Array(inputs * inputs);
    for (let i = 0; i < inputs; i += 1) identity[i * (inputs + 1)] = 1;
    const nearest = dequantiseBlocks(quantiseBlocks(weight, inputs, outputs, bits), inputs, outputs);
    for (const hessian of [identity, new Float32Array(inputs * inputs)]) {
      const feedback = await factorHessian(hessian.slice(), inputs);
      const found = dequantiseBlocks(await quantiseWithFeedback(weight, outputs, bits, feedback), inputs, outputs);
      for (let c = 0; c < outputs; c += 1) {
        const column = (of: Float32Array): Float32Array => of.filter((_, i) => i % outputs === c);
        const [before, after] = [nearest, found].map((of) => weighedError(identity, column(weight), column(of), 1));
        assert.ok(after! <= before! * 1.0001, `${c}: ${after} against ${before}`);
      }
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

test('more outputs than are rounded at once come out as near as each by itself', async () => {
  const [inputs, outputs] = [40, 2100];
  const weight = normals(inputs * outputs, 6);
  const h = correlatedHessian(inputs, 100, 7);
  const feedback = await factorHessian(h.slice(), inputs);
  const whole = dequantiseBlocks(await quantiseWithFeedback(weight, outputs, 4, feedback), inputs, outputs);
  const nearest = dequantiseBlocks(quantiseBlocks(weight, inputs, outputs, 4), inputs, outputs);
  for (const column of [0, 2047, 2048, 2099]) {
    const own = (of: Float32Array): Float32Array => of.filter((_, i) => i % outputs === column);
    const alone = dequantiseBlocks(await quantiseWithFeedback(own(weight), 1, 4, feedback), inputs, 1);
    // The runtime adds up in another order, which may tip a choice between ranges.
    const [one, many, rough] = [alone, own(whole), own(nearest)].map((of) => weighedError(h, own(weight), of, 1));
    assert.ok(Math.max(one!, many!) < 1.3 * Math.min(one!, many!), `${column}: ${one} and ${many}`);
    assert.ok(many! < 0.5 * rough!, `${column}: ${many} against ${rough}`);
  }
});

test('a weight whose inputs have changed is corrected to the least squares of its outputs', async () => {
  const [n, rows, outputs] = [70, 300, 3];
  const before = normals(n * rows, 8);
  const noise = normals(n * rows, 9);
  const after = before.map((x, i) => 0.9 * x + 0.2 * noise[i]!);
  const weight = normals(n * outputs, 10);
  const [hessian, shift] = [new Float32Array(n * n), new Float32Array(n * n)];
  for (let r = 0; r < rows; r += 1)
    for (let i = 0; i < n; i += 1)
      for (let j = 0; j < n; j += 1) {
        hessian[i * n + j]! += after[r * n + i]! * after[r * n + j]!;
        shift[i * n + j]! += after[r * n + i]! * (before[r * n + j]! - after[r * n + j]!);
      }
  const found = await correctedWeight(weight, outputs, shift, await factorHessian(hessian, n));
  const lost = (of: Float32Array): number => {
    let sum = 0;
    for (let r = 0; r < rows; r += 1)
      for (let c = 0; c < outputs; c += 1) {
        let difference = 0;
        for (let i = 0; i < n; i += 1)
          difference += before[r * n + i]! * weight[i * outputs + c]! - after[r * n + i]! * of[i * outputs + c]!;
        sum += difference ** 2;
      }
    return sum;
  };
  const least = lost(found);
  assert.ok(least < 0.8 * lost(weight), `${least} against ${lost(weight)}`);
  // No step along any coordinate gains more than what the damping takes.
  for (let i = 0; i < found.length; i += 17)
    for (const step of [-0.05, 0.05])
      assert.ok(lost(found.map((x, k) => (k === i ? x + step : x))) > least, `${i} ${step}`);
});

test('improving a rounding never makes it worse, and stops where no single code is better', async () => {
  const [inputs, outputs] = [80, 6];
  const weight = normals(inputs * outputs, 11);
  const h = correlatedHessian(inputs, 500, 12);
  const feedback = await factorHessian(h.slice(), inputs);
  const blocks = Math.ceil(inputs / 32);
  const rounded: RoundedColumns = {
    count: outputs,
    bits: 4,
    steps: new Int8Array(inputs * outputs),
    scales: new Float32Array(blocks * outputs).fill(0.25),
    zeros: new Uint8Array(blocks * outputs).fill(8),
    errors: weight.slice(),
  };
  const zero = new Float32Array(weight.length);
  const before = weighedError(h, rounded.errors, zero, outputs);
  await improveRounding(rounded, feedback);
  const after = weighedError(h, rounded.errors, zero, outputs);
  assert.ok(after < 0.1 * before, `${after} against ${before}`);
  rounded.steps.forEach((own, at) => {
    const scale = rounded.scales[Math.floor(at / outputs / 32) * outputs + (at % outputs)]!;
    assert.ok(Math.abs(own * scale + rounded.errors[at]! - weight[at]!) < 1e-4, 'steps · scale + error is the weight');
  });
  await improveRounding(rounded, feedback);
  assert.ok(weighedError(h, rounded.errors, zero, outputs) <= after * 1.0001);
});

test('inputs beyond float32 are refused, not rounded to anything', async () => {
  const hessian = new Float32Array(4).fill(1);
  hessian[3] = Number.POSITIVE_INFINITY;
  await assert.rejects(factorHessian(hessian, 2), { code: 'calibration-overflow' });
});
