// OLMo 2: sublayers read the residual as it is and their outputs are normalised; queries and keys are normalised over all heads together.
// Zone: edge and owner. Defaults as in transformers' Olmo2Config.

import { type Family, notWritten, silu } from './family.js';

export const olmo2: Family = {
  modelType: 'olmo2',
  architecture: 'Olmo2ForCausalLM',
  defaults: {
    numKeyValueHeads: null,
    maxPositionEmbeddings: 2048,
    bosTokenId: null,
    eosTokenIds: [50279],
    rmsNormEps: 1e-5,
  },
  student: false,
  activations: silu,
  readBiases(fields) {
    const attention = fields.flag('attention_bias', false);
    return { qkvBias: attention, outputBias: attention, mlpBias: false };
  },
  readSlidingWindow: () => null,
  readFeatures: () => ({ norms: 'post', qkNorm: 'width' }),
  toHf: () => notWritten('olmo2'),
};
