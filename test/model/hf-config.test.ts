// config.json: defaults per family as in transformers, both rotary styles, round trips, refusals by file and key.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { parseConfig, toHfConfig } from '../../src/model/checkpoint/hf-config.js';
import { type DecoderConfig, plainFeatures } from '../../src/model/config.js';
import { buildSegments } from '../../src/model/segments.js';
import { failsWith } from './fixtures.js';

const sizes = { vocab_size: 100, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 4, num_attention_heads: 8 };
const parse = (json: Record<string, unknown>): DecoderConfig =>
  parseConfig({ model_type: 'llama', ...sizes, ...json }, 'm/config.json');

test('llama: defaults', () => {
  const config = parse({});
  assert.deepEqual(
    [
      config.numKeyValueHeads,
      config.headDim,
      config.rmsNormEps,
      config.ropeTheta,
      config.ropeScaling,
      config.maxPositionEmbeddings,
    ],
    [8, 8, 1e-6, 10000, null, 2048],
  );
  assert.deepEqual(
    [config.qkvBias, config.outputBias, config.mlpBias, config.tieWordEmbeddings],
    [false, false, false, false],
  );
  assert.deepEqual(
    [config.bosTokenId, config.eosTokenIds, config.padTokenId, config.slidingWindow],
    [1, [2], null, null],
  );
});

test('llama: biases, explicit head width, several ends', () => {
  const config = parse({
    attention_bias: true,
    mlp_bias: true,
    head_dim: 16,
    num_key_value_heads: 2,
    eos_token_id: [7, 9],
    pad_token_id: -1,
  });
  assert.deepEqual([config.qkvBias, config.outputBias, config.mlpBias, config.headDim], [true, true, true, 16]);
  assert.deepEqual([config.eosTokenIds, config.padTokenId], [[7, 9], null]);
  const shapes = new Map(expectedTensors(config).map(({ name, shape }) => [name, shape]));
  assert.deepEqual(shapes.get('model.layers.3.self_attn.q_proj.weight'), [128, 64]);
  assert.deepEqual(shapes.get('model.layers.0.self_attn.k_proj.bias'), [32]);
  assert.deepEqual(shapes.get('model.layers.0.self_attn.o_proj.weight'), [64, 128]);
  assert.deepEqual(shapes.get('model.layers.0.mlp.down_proj.weight'), [64, 96]);
  assert.deepEqual(shapes.get('lm_head.weight'), [100, 64]);
  assert.ok(!expectedTensors({ ...config, tieWordEmbeddings: true }).some(({ name }) => name === 'lm_head.weight'));
});

test('mistral: the window applies unless it is null', () => {
  assert.equal(parse({ model_type: 'mistral' }).slidingWindow, 4096);
  assert.equal(parse({ model_type: 'mistral', sliding_window: 512 }).slidingWindow, 512);
  assert.equal(parse({ model_type: 'mistral', sliding_window: null }).slidingWindow, null);
  assert.equal(parse({ model_type: 'mistral' }).maxPositionEmbeddings, 131072);
});

test('qwen2: biases on q, k, v; the window only where it is switched on', () => {
  const qwen = (json: Record<string, unknown>): DecoderConfig =>
    parse({ model_type: 'qwen2', num_key_value_heads: 2, ...json });
  const config = qwen({ sliding_window: 32768 });
  assert.deepEqual(
    [config.qkvBias, config.outputBias, config.mlpBias, config.slidingWindow],
    [true, false, false, null],
  );
  assert.deepEqual([config.bosTokenId, config.eosTokenIds], [null, []]);
  assert.equal(qwen({ use_sliding_window: true, sliding_window: 64, max_window_layers: 0 }).slidingWindow, 64);
  assert.equal(qwen({ use_sliding_window: true, sliding_window: 64, max_window_layers: 4 }).slidingWindow, null);
  const some = qwen({ use_sliding_window: true, sliding_window: 64, max_window_layers: 2 });
  assert.deepEqual([some.slidingWindow, some.slidingBlocks], [64, [false, false, true, true]]);
  assert.deepEqual(parseConfig(toHfConfig(some), 'm/config.json'), some);
  assert.throws(
    () => qwen({ use_sliding_window: true, sliding_window: 64, max_window_layers: -1 }),
    failsWith('config-key', 'max_window_layers'),
  );
  const types = ['sliding_attention'];
  assert.throws(
    () => qwen({ use_sliding_window: true, sliding_window: 64, layer_types: types }),
    failsWith('config-key', 'layer_types', 'a list of 4'),
  );
});

test('rotary settings, both styles', () => {
  const llama3 = {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const old = parse({ rope_theta: 500000, rope_scaling: llama3 });
  const current = parse({ rope_parameters: { ...llama3, rope_theta: 500000 } });
  assert.deepEqual(old, current);
  assert.deepEqual(old.ropeScaling, {
    type: 'llama3',
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 8192,
  });
  assert.deepEqual(parse({ rope_scaling: { type: 'linear', factor: 2 } }).ropeScaling, { type: 'linear', factor: 2 });
  assert.deepEqual(parse({ rope_parameters: { rope_type: 'default', rope_theta: 1234 } }).ropeTheta, 1234);
  assert.throws(
    () => parse({ rope_scaling: { type: 'yarn', factor: 2 } }),
    failsWith('rope-unsupported', 'm/config.json', 'rope_scaling.type', 'yarn'),
  );
  assert.throws(
    () => parse({ rope_scaling: { type: 'linear' } }),
    failsWith('config-key', 'rope_scaling.factor', 'missing'),
  );
  assert.throws(() => parse({ partial_rotary_factor: 0.5 }), failsWith('rope-unsupported', 'partial_rotary_factor'));
});

test('qwen3, olmo2, phi3: norms, defaults and refusals', () => {
  const qwen3 = parse({ model_type: 'qwen3', num_key_value_heads: 2, attention_bias: true });
  assert.deepEqual([qwen3.qkNorm, qwen3.headDim, qwen3.qkvBias, qwen3.outputBias], ['head', 128, true, true]);
  const olmo2 = parse({ model_type: 'olmo2' });
  assert.deepEqual([olmo2.norms, olmo2.qkNorm, olmo2.eosTokenIds], ['post', 'width', [50279]]);
  const names = expectedTensors(olmo2).map(({ name }) => name);
  assert.ok(!names.includes('model.layers.0.input_layernorm.weight'));
  assert.ok(names.includes('model.layers.0.post_feedforward_layernorm.weight'));
  const phi3 = parse({ model_type: 'phi3', sliding_window: 2047 });
  assert.deepEqual([phi3.slidingWindow, phi3.rmsNormEps, phi3.norms], [2047, 1e-5, 'pre']);
  const longrope = { rope_type: 'longrope', long_factor: [1], short_factor: [1] };
  assert.throws(() => parse({ model_type: 'phi3', rope_scaling: longrope }), failsWith('rope-unsupported', 'longrope'));
});

test('gemma3: the text part of a multimodal config, both styles of rotary settings, defaults', () => {
  const text = { ...sizes, query_pre_attn_scalar: 64, sliding_window: 16, num_key_value_heads: 2 };
  const plain = parse({ ...text, model_type: 'gemma3_text' });
  assert.deepEqual(parseConfig({ model_type: 'gemma3', text_config: text }, 'm/config.json'), plain);
  assert.deepEqual(
    [plain.modelType, plain.norms, plain.qkNorm, plain.activation, plain.tieWordEmbeddings, plain.headDim],
    ['gemma3_text', 'both', 'head', 'gelu', false, 256],
  );
  assert.deepEqual([plain.attentionScale, plain.ropeTheta, plain.localRopeTheta], [1 / 8, 1_000_000, 10_000]);
  assert.deepEqual(plain.slidingBlocks, [true, true, true, true]);
  const current = { full_attention: { rope_theta: 5e5, rope_type: 'linear', factor: 8 }, sliding_attention: {} };
  const newer = parse({ ...text, model_type: 'gemma3_text', sliding_window_pattern: 2, rope_parameters: current });
  assert.deepEqual(
    [newer.ropeTheta, newer.localRopeTheta, newer.ropeScaling, newer.slidingBlocks],
    [5e5, 10_000, { type: 'linear', factor: 8 }, [true, false, true, false]],
  );
  const gemma = (json: Record<string, unknown>): DecoderConfig =>
    parse({ ...text, model_type: 'gemma3_text', ...json });
  assert.throws(() => gemma({ layer_types: ['full_attention'] }), failsWith('config-key', 'layer_types', '4 times'));
  assert.throws(() => gemma({ use_bidirectional_attention: true }), failsWith('attention-unsupported'));
  assert.throws(() => gemma({ hidden_activation: 'silu' }), failsWith('activation-unsupported', 'gelu_pytorch_tanh'));
});

test('gpt2: its own keys and defaults, and the attention variants that are not computed', () => {
  const gpt2 = (json: Record<string, unknown>): DecoderConfig =>
    parseConfig({ model_type: 'gpt2', n_embd: 64, n_head: 4, n_layer: 3, ...json }, 'm/config.json');
  const config = gpt2({});
  assert.deepEqual(
    [config.vocabSize, config.intermediateSize, config.maxPositionEmbeddings, config.headDim, config.rmsNormEps],
    [50257, 256, 1024, 16, 1e-5],
  );
  assert.deepEqual(
    [config.positions, config.gatedMlp, config.headBias, config.activation, config.tieWordEmbeddings],
    ['learned', false, true, 'gelu', false],
  );
  const refused = ['attention-unsupported', 'scale_attn_by_inverse_layer_idx'] as const;
  assert.throws(() => gpt2({ scale_attn_by_inverse_layer_idx: true }), failsWith(...refused));
  assert.throws(() => gpt2({ activation_function: 'relu' }), failsWith('activation-unsupported', 'gelu_new'));
});

test('a teacher-only family is not written, by name', () => {
  for (const modelType of ['gemma3_text', 'phi3', 'olmo2'])
    assert.throws(
      () => toHfConfig(parse({ model_type: modelType, num_key_value_heads: 2 })),
      failsWith('family-not-written', modelType, 'qwen3'),
    );
});

test('a head width that the attention operator does not compute is refused when its graph is built', () => {
  const config = parse({ head_dim: 12 });
  assert.throws(() => buildSegments(config), failsWith('head-width', 'head_dim is 12', 'multiple of 8'));
});

test('what cannot be computed is refused by key', () => {
  assert.throws(
    () => parse({ model_type: 'gemma2' }),
    failsWith(
      'architecture-unsupported',
      'm/config.json',
      'gemma2',
      'llama, mistral, qwen2, qwen3, gemma3_text, phi3, gpt2, olmo2',
    ),
  );
  assert.throws(() => parse({ hidden_act: 'gelu' }), failsWith('activation-unsupported', 'hidden_act', 'gelu', 'silu'));
  assert.throws(() => parse({ quantization_config: {} }), failsWith('quantization-unsupported', 'quantization_config'));
  assert.throws(() => parse({ vocab_size: undefined }), failsWith('config-key', 'vocab_size', 'missing'));
  assert.throws(() => parse({ hidden_size: '64' }), failsWith('config-key', 'hidden_size', '"64"'));
  assert.throws(() => parse({ num_key_value_heads: 3 }), failsWith('config-key', 'num_key_value_heads', 'divisor'));
  assert.throws(() => parse({ hidden_size: 60 }), failsWith('config-key', 'head_dim', '7.5'));
  assert.throws(() => parse({ eos_token_id: 'x' }), failsWith('config-key', 'eos_token_id'));
  assert.throws(() => parseConfig([], 'm/config.json'), failsWith('config-invalid', 'm/config.json'));
});

const scaling = fc.oneof(
  fc.constant(null),
  fc.record({ type: fc.constant('linear' as const), factor: fc.integer({ min: 1, max: 16 }) }),
  fc.record({
    type: fc.constant('llama3' as const),
    factor: fc.integer({ min: 1, max: 32 }),
    lowFreqFactor: fc.constant(1),
    highFreqFactor: fc.constant(4),
    originalMaxPositionEmbeddings: fc.integer({ min: 1, max: 9000 }),
  }),
);
const tokenId = fc.option(fc.nat(99), { nil: null });
const configs: fc.Arbitrary<DecoderConfig> = fc
  .record({
    modelType: fc.constantFrom('llama' as const, 'mistral' as const, 'qwen2' as const, 'qwen3' as const),
    vocabSize: fc.integer({ min: 1, max: 200000 }),
    hiddenSize: fc.integer({ min: 1, max: 8192 }),
    intermediateSize: fc.integer({ min: 1, max: 30000 }),
    numHiddenLayers: fc.integer({ min: 1, max: 80 }),
    numKeyValueHeads: fc.integer({ min: 1, max: 8 }),
    group: fc.integer({ min: 1, max: 8 }),
    halfHead: fc.integer({ min: 1, max: 128 }),
    rmsNormEps: fc.constantFrom(1e-5, 1e-6),
    ropeTheta: fc.integer({ min: 1, max: 1000000 }),
    ropeScaling: scaling,
    maxPositionEmbeddings: fc.integer({ min: 1, max: 200000 }),
    slidingWindow: fc.option(fc.integer({ min: 1, max: 5000 }), { nil: null }),
    attentionBias: fc.boolean(),
    mlpBias: fc.boolean(),
    tieWordEmbeddings: fc.boolean(),
    bosTokenId: tokenId,
    eosTokenIds: fc.uniqueArray(fc.nat(99), { maxLength: 3 }),
    padTokenId: tokenId,
    initializerRange: fc.constantFrom(0.02, 0.041666666666666664),
  })
  .map(({ group, halfHead, attentionBias, ...rest }) => ({
    ...plainFeatures,
    ...rest,
    qkNorm: rest.modelType === 'qwen3' ? ('head' as const) : null,
    numAttentionHeads: rest.numKeyValueHeads * group,
    headDim: halfHead * 2,
    slidingWindow: rest.modelType === 'llama' ? null : rest.slidingWindow,
    qkvBias: rest.modelType === 'qwen2' || (attentionBias && ['llama', 'qwen3'].includes(rest.modelType)),
    outputBias: attentionBias && ['llama', 'qwen3'].includes(rest.modelType),
    mlpBias: rest.modelType === 'llama' && rest.mlpBias,
  }));

test('every configuration of every family survives the round trip through JSON', () => {
  fc.assert(
    fc.property(configs, (config) => {
      const plain = JSON.parse(JSON.stringify(config));
      assert.deepEqual(parseConfig(JSON.parse(JSON.stringify(toHfConfig(config))), 'config.json'), plain);
    }),
  );
});

test('a config.json that the family cannot express is refused', () => {
  const config = parse({});
  assert.throws(() => toHfConfig({ ...config, qkvBias: true }), failsWith('config-inexpressible'));
  assert.throws(
    () => toHfConfig({ ...config, modelType: 'mistral', mlpBias: true }),
    failsWith('config-inexpressible'),
  );
  assert.throws(() => toHfConfig({ ...config, modelType: 'qwen2' }), failsWith('config-inexpressible'));
});
