// Qwen2 and Qwen2.5: biases on q, k and v always, none elsewhere; the attention window only where `use_sliding_window` says so.
// Zone: edge and owner. Defaults as in transformers' Qwen2Config.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { JsonFields } from '../checkpoint/json-fields.js';
import { type Family, silu } from './family.js';

export const qwen2: Family = {
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  defaults: { numKeyValueHeads: 32, maxPositionEmbeddings: 32768, bosTokenId: null, eosTokenIds: [] },
  student: true,
  activations: silu,
  readBiases: () => ({ qkvBias: true, outputBias: false, mlpBias: false }),
  readSlidingWindow(fields, numHiddenLayers) {
    if (!fields.flag('use_sliding_window', false) || fields.get('sliding_window') === undefined) return null;
    const windowed = windowedLayers(fields, numHiddenLayers);
    if (windowed === 0) return null;
    if (windowed === numHiddenLayers) return fields.count('sliding_window');
    throw new UnsupportedError(
      'window-unsupported',
      `${fields.file}: "use_sliding_window" gives ${windowed} of ${numHiddenLayers} layers a window; supported are all layers or none.`,
      { file: fields.file, key: 'use_sliding_window' },
    );
  },
  toHf(config) {
    if (!config.qkvBias || config.outputBias || config.mlpBias) {
      throw new UnsupportedError(
        'config-inexpressible',
        'A qwen2 config.json has biases on q, k and v and nowhere else.',
      );
    }
    return config.slidingWindow === null
      ? { use_sliding_window: false, sliding_window: null }
      : { use_sliding_window: true, sliding_window: config.slidingWindow, max_window_layers: 0 };
  },
};

function windowedLayers(fields: JsonFields, numHiddenLayers: number): number {
  const types = fields.get('layer_types');
  if (Array.isArray(types)) return types.filter((type) => type === 'sliding_attention').length;
  const first = fields.get('max_window_layers');
  if (first !== undefined && (typeof first !== 'number' || !Number.isSafeInteger(first) || first < 0)) {
    throw fields.wrong('max_window_layers', 'a layer number');
  }
  return Math.max(0, numHiddenLayers - (first ?? 28));
}
