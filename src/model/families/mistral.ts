// Mistral: Llama without biases, with an attention window that applies unless `sliding_window` is null.
// Zone: edge and owner. Defaults as in transformers' MistralConfig.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import { type Family, silu } from './family.js';

export const mistral: Family = {
  modelType: 'mistral',
  architecture: 'MistralForCausalLM',
  defaults: { numKeyValueHeads: 8, maxPositionEmbeddings: 131072, bosTokenId: 1, eosTokenIds: [2] },
  student: true,
  activations: silu,
  readBiases: () => ({ qkvBias: false, outputBias: false, mlpBias: false }),
  readSlidingWindow(fields) {
    if (fields.has('sliding_window') && fields.get('sliding_window') === undefined) return null;
    return fields.count('sliding_window', 4096);
  },
  toHf(config) {
    if (config.qkvBias || config.outputBias || config.mlpBias) {
      throw new UnsupportedError('config-inexpressible', 'A mistral config.json cannot express biases.');
    }
    return { sliding_window: config.slidingWindow };
  },
};
