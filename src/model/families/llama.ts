// Llama 1 to 3, SmolLM, TinyLlama: optional biases on all four attention projections together, no attention window.
// Zone: edge and owner. Defaults as in transformers' LlamaConfig.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import { type Family, silu } from './family.js';

export const llama: Family = {
  modelType: 'llama',
  architecture: 'LlamaForCausalLM',
  defaults: { numKeyValueHeads: null, maxPositionEmbeddings: 2048, bosTokenId: 1, eosTokenIds: [2] },
  student: true,
  activations: silu,
  readBiases(fields) {
    const attention = fields.flag('attention_bias', false);
    return { qkvBias: attention, outputBias: attention, mlpBias: fields.flag('mlp_bias', false) };
  },
  readSlidingWindow: () => null,
  toHf(config) {
    if (config.qkvBias !== config.outputBias || config.slidingWindow !== null) {
      throw new UnsupportedError(
        'config-inexpressible',
        'A llama config.json cannot express these biases or an attention window.',
      );
    }
    return { attention_bias: config.qkvBias, mlp_bias: config.mlpBias };
  },
};
