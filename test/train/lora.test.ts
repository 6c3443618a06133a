// Low-rank adapters in the step graph: their gradients, what they start as, what merging makes of them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mergeAdapters, withAdapters } from '../../src/edge/train/adapters.js';
import { accumulateGraph, fusedStepGraph, type StepGraphOptions } from '../../src/edge/train/step-graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { type Feeds, Session } from '../../src/graph/runtime.js';
import { adapterNames, adapterTensors, type LoraConfig } from '../../src/model/lora.js';
import { lcg } from '../graph/check-gradient.js';
import { config, type Filled, feedsFor, options } from './tiny-step.js';

const lora: LoraConfig = {
  r: 2,
  lora_alpha: 3,
  target_modules: ['q_proj', 'o_proj', 'mlp.down_proj'],
  modules_to_save: ['embed_tokens'],
};
const withLora: StepGraphOptions = { ...options, lora };

async function lossOf(parameters: Filled, batch: Feeds, stepOptions: StepGraphOptions): Promise<number> {
  const graph = accumulateGraph(config, stepOptions);
  const session = await Session.open(encodeModel(graph));
  const zeros = Object.fromEntries(
    graph.inputs
      .filter(({ name }) => name.startsWith('g:'))
      .map(({ name, shape }) => {
        const size = (shape as number[]).reduce((a, b) => a * b, 1);
        return [name, { data: new Float32Array(size), shape: shape as number[] }];
      }),
  );
  try {
    const out = await session.run({ ...parameters, ...zeros, ...batch }, {}, ['kd', 'ce']);
    return 0.5 * (out['ce']!.data as Float32Array)[0]! + 0.5 * 4 * (out['kd']!.data as Float32Array)[0]!;
  } finally {
    await session.close();
  }
}

describe('adapters', () => {
  it('have the gradients of central differences, and nothing frozen has one', async () => {
    const graph = accumulateGraph(config, withLora);
    const { parameters, state, batch } = feedsFor(graph);
    const trained = graph.outputs.map(({ name }) => name).filter((name) => name.startsWith('next_g:'));
    const adapters = adapterTensors(config, lora).map(({ name }) => name);
    assert.deepEqual(trained.sort(), ['model.embed_tokens.weight', ...adapters].map((n) => `next_g:${n}`).sort());
    assert.equal(adapters.length, 2 * 2 * 3);
    const session = await Session.open(encodeModel(graph));
    const loss = async (): Promise<number> => {
      const out = await session.run({ ...parameters, ...state, ...batch }, {}, ['kd', 'ce']);
      return 0.5 * (out['ce']!.data as Float32Array)[0]! + 0.5 * 4 * (out['kd']!.data as Float32Array)[0]!;
    };
    const out = await session.run({ ...parameters, ...state, ...batch });
    const random = lcg(3);
    let largest = 0;
    for (const output of trained) {
      const { data } = parameters[output.slice('next_g:'.length)]!;
      const gradient = out[output]!.data as Float32Array;
      for (let n = 0; n < 4; n += 1) {
        const i = Math.floor(random() * data.length);
        const kept = data[i]!;
        data[i] = kept + 1e-2;
        const above = await loss();
        data[i] = kept - 1e-2;
        const below = await loss();
        data[i] = kept;
        const numeric = (above - below) / 2e-2;
        largest = Math.max(largest, Math.abs(numeric));
        assert.ok(Math.abs(gradient[i]! - numeric) <= 2e-3, `${output}[${i}]: ${gradient[i]}, difference ${numeric}`);
      }
    }
    assert.ok(largest > 0.02, `gradients too small to tell: ${largest}`);
    await session.close();
  });

  it('change nothing at the start, and merged into the weights compute the same', async () => {
    const { parameters, batch } = feedsFor(accumulateGraph(config, options));
    const plain = await lossOf(parameters, batch, options);
    const student = { config, parameters: new Map(Object.entries(parameters)), tokenizer: null };
    const adapted = withAdapters(student, lora, 1);
    const started = await lossOf(Object.fromEntries(adapted.parameters), batch, withLora);
    assert.ok(Math.abs(started - plain) < 1e-6, `${started}, plain ${plain}`);

    const random = lcg(9);
    for (const [name, { data }] of adapted.parameters)
      if (name.includes('.lora_')) for (let i = 0; i < data.length; i += 1) data[i] = random() - 0.5;
    const moved = await lossOf(Object.fromEntries(adapted.parameters), batch, withLora);
    assert.ok(Math.abs(moved - plain) > 1e-2, `adapters do nothing: ${moved}`);
    const merged = mergeAdapters(adapted, lora);
    assert.deepEqual([...merged.parameters.keys()], Object.keys(parameters));
    const after = await lossOf(Object.fromEntries(merged.parameters), batch, options);
    assert.ok(Math.abs(after - moved) < 1e-5, `merged ${after}, adapted ${moved}`);
  });

  it('are what a fused step updates', () => {
    const updated = fusedStepGraph(config, withLora)
      .outputs.map(({ name }) => name)
      .filter((name) => name.startsWith('next:'));
    assert.ok(updated.includes(`next:${adapterNames('model.layers.1.mlp.down_proj').b}`));
    assert.ok(!updated.includes('next:model.layers.1.mlp.down_proj.weight'));
    assert.ok(updated.includes('next:model.embed_tokens.weight'));
  });

  it('refuse ranks, scales and modules that do not exist', () => {
    const make = (changes: Partial<LoraConfig>) => () => adapterTensors(config, { ...lora, ...changes });
    assert.throws(make({ r: 0 }), { code: 'lora-rank' });
    assert.throws(make({ lora_alpha: 0 }), { code: 'lora-alpha' });
    assert.throws(make({ target_modules: ['q_prog'] }), { code: 'lora-target', message: /q_proj.*down_proj/ });
    assert.throws(make({ target_modules: ['lm_head'] }), { code: 'lora-target' });
  });
});
