// Qwen2 and Qwen2.5: biases on q, k and v always, none elsewhere; the attention window only where `use_sliding_window` says so.
// Zone: edge and owner. Defaults as in transformers' Qwen2Config.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { JsonFields } from '../checkpoint/json-fields.js';
import type { DecoderConfig } from '../config.js';
import { type Family, silu } from './family.js';

export const qwen2: Family = {
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  defaults: { numKeyValueHeads: 32, maxPositionEmbeddings: 32768, bosTokenId: null, eosTokenIds: [] },
  student: true,
  activations: silu,
  readBiases: () => ({ qkvBias: true, outputBias: false, mlpBias: false }),
  readSlidingWindow(fields, numHiddenLayers) {
    return qwenWindows(fields, numHiddenLayers).includes(true) ? fields.count('sliding_window') : null;
  },
  readFeatures: (fields, { numHiddenLayers }) => ({ slidingBlocks: mixed(qwenWindows(fields, numHiddenLayers)) }),
  toHf(config) {
    if (!config.qkvBias || config.outputBias || config.mlpBias) {
      throw new UnsupportedError(
        'config-inexpressible',
        'A qwen2 config.json has biases on q, k and v and nowhere else.',
      );
    }
    return qwenWindowToHf(config);
  },
};

/** Which blocks have a window: those of `layer_types`, or all from `max_window_layers` on; none unless it is switched on. */
export function qwenWindows(fields: JsonFields, blocks: number): boolean[] {
  if (!fields.flag('use_sliding_window', false) || fields.get('sliding_window') === undefined)
    return Array<boolean>(blocks).fill(false);
  const types = fields.get('layer_types');
  if (types !== undefined) {
    if (!Array.isArray(types) || types.length !== blocks) throw fields.wrong('layer_types', `a list of ${blocks}`);
    return types.map((type) => type === 'sliding_attention');
  }
  const first = fields.get('max_window_layers') ?? 28;
  if (typeof first !== 'number' || !Number.isSafeInteger(first) || first < 0)
    throw fields.wrong('max_window_layers', 'a layer number');
  return Array.from({ length: blocks }, (_, block) => block >= first);
}

/** null where all blocks are alike. */
export function mixed(windows: boolean[]): boolean[] | null {
  return windows.includes(true) && windows.includes(false) ? windows : null;
}

export function qwenWindowToHf({ slidingWindow, slidingBlocks }: DecoderConfig): Record<string, unknown> {
  if (slidingWindow === null) return { use_sliding_window: false, sliding_window: null };
  const types = slidingBlocks?.map((windowed) => (windowed ? 'sliding_attention' : 'full_attention'));
  const blocks = types === undefined ? { max_window_layers: 0 } : { layer_types: types };
  return { use_sliding_window: true, sliding_window: slidingWindow, ...blocks };
}
