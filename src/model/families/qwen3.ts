// Qwen3: Llama with RMSNorm of every query and key head before RoPE. The attention window only where `use_sliding_window` says so.
// Zone: edge and owner. Defaults as in transformers' Qwen3Config.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import { type Family, silu } from './family.js';
import { mixed, qwen2, qwenWindows, qwenWindowToHf } from './qwen2.js';

export const qwen3: Family = {
  modelType: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  defaults: { numKeyValueHeads: 32, maxPositionEmbeddings: 32768, bosTokenId: null, eosTokenIds: [], headDim: 128 },
  student: true,
  activations: silu,
  readBiases(fields) {
    const attention = fields.flag('attention_bias', false);
    return { qkvBias: attention, outputBias: attention, mlpBias: false };
  },
  readSlidingWindow: qwen2.readSlidingWindow,
  readFeatures: (fields, { numHiddenLayers }) => ({
    qkNorm: 'head',
    slidingBlocks: mixed(qwenWindows(fields, numHiddenLayers)),
  }),
  toHf(config) {
    if (config.qkvBias !== config.outputBias || config.mlpBias) {
      throw new UnsupportedError('config-inexpressible', 'A qwen3 config.json cannot express these biases.');
    }
    return { attention_bias: config.qkvBias, ...qwenWindowToHf(config) };
  },
};
