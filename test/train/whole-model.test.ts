// Whole-model gradients against central differences: two blocks, grouped heads, biases or head norms, packed rows, tied head.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stepScalarValues } from '../../src/edge/train/adamw.js';
import { accumulateGraph, fusedStepGraph } from '../../src/edge/train/step-graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { Session, type Tensor } from '../../src/graph/runtime.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { lcg } from '../graph/check-gradient.js';
import { config, type Filled, feedsFor, options } from './tiny-step.js';

describe('whole model', () => {
  const qwen3: DecoderConfig = { ...config, modelType: 'qwen3', qkvBias: false, qkNorm: 'head' };
  for (const [shape, kinds] of [
    [config, 12],
    [qwen3, 11],
  ] as const)
    it(`${shape.modelType}: gradient of the mixed loss agrees with central differences in every kind of parameter`, async () => {
      const graph = accumulateGraph(shape, options);
      const { parameters, state, batch } = feedsFor(graph);
      const session = await Session.open(encodeModel(graph));
      const feeds = { ...parameters, ...state, ...batch };
      const loss = async (): Promise<number> => {
        const out = await session.run(feeds, {}, ['kd', 'ce']);
        return 0.5 * (out['ce']!.data as Float32Array)[0]! + 0.5 * 4 * (out['kd']!.data as Float32Array)[0]!;
      };
      const out = await session.run(feeds);
      const random = lcg(5);
      let checked = 0;
      for (const [name, { data }] of Object.entries(parameters)) {
        const gradient = out[`next_g:${name}`]!.data as Float32Array;
        for (let n = 0; n < 4; n += 1) {
          const i = Math.floor(random() * data.length);
          const kept = data[i]!;
          const h = 1e-2;
          data[i] = kept + h;
          const above = await loss();
          data[i] = kept - h;
          const below = await loss();
          data[i] = kept;
          const numeric = (above - below) / (2 * h);
          assert.ok(
            Math.abs(gradient[i]! - numeric) <= 2e-3,
            `${name}[${i}]: ${gradient[i]}, central difference ${numeric}`,
          );
          checked += 1;
        }
      }
      assert.equal(checked, 4 * (1 + 1 + 2 * kinds));
      await session.close();
    });

  it('the fused step equals AdamW computed by hand, in place', async () => {
    const accumulate = accumulateGraph(config, options);
    const { parameters, state, batch } = feedsFor(accumulate);
    const gradientSession = await Session.open(encodeModel(accumulate));
    const gradients = await gradientSession.run({ ...parameters, ...state, ...batch });
    await gradientSession.close();
    const before = Object.fromEntries(Object.entries(parameters).map(([name, t]) => [name, t.data.slice()]));
    let square = 0;
    for (const name of Object.keys(parameters))
      for (const g of gradients[`next_g:${name}`]!.data as Float32Array) square += g * g;
    const norm = Math.sqrt(square);
    const clip = Math.min(1, 1 / (norm + 1e-6));

    const graph = fusedStepGraph(config, options);
    const moments: Filled = {};
    const into: Record<string, Tensor> = {};
    for (const [name, { shape, data }] of Object.entries(parameters)) {
      moments[`m:${name}`] = { data: new Float32Array(data.length), shape };
      moments[`v:${name}`] = { data: new Float32Array(data.length), shape };
      into[`next:${name}`] = parameters[name]!;
      into[`next_m:${name}`] = moments[`m:${name}`]!;
      into[`next_v:${name}`] = moments[`v:${name}`]!;
    }
    const session = await Session.open(encodeModel(graph));
    const hyper = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
    const scalars = Object.fromEntries(
      Object.entries(stepScalarValues(1, 1e-2, hyper)).map(([name, x]) => [
        name,
        { data: Float32Array.of(x), shape: [] },
      ]),
    );
    const out = await session.run({ ...parameters, ...moments, ...batch, ...scalars }, into);
    await session.close();
    assert.ok(Math.abs((out['grad_norm']!.data as Float32Array)[0]! - norm) < 1e-4 * norm);
    for (const [name, { data, shape }] of Object.entries(parameters)) {
      const g = gradients[`next_g:${name}`]!.data as Float32Array;
      data.forEach((updated, i) => {
        const gi = g[i]! * clip;
        const mHat = (0.1 * gi) / (1 - 0.9);
        const vHat = (0.05 * gi * gi) / (1 - 0.95);
        const decay = shape.length >= 2 ? 1 - 1e-2 * 0.1 : 1;
        const expected = before[name]![i]! * decay - (1e-2 * mHat) / (Math.sqrt(vHat) + 1e-8);
        assert.ok(Math.abs(updated - expected) < 2e-5, `${name}[${i}]: ${updated}, by hand ${expected}`);
      });
    }
  });
});
