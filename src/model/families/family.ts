// What one model family has of its own: defaults of its config.json, which biases exist, how its attention window is written.
// Zone: edge and owner. One file per family, named after `model_type`.

import type { JsonFields } from '../checkpoint/json-fields.js';
import type { DecoderConfig } from '../config.js';

export interface FamilyDefaults {
  /** null: as many as query heads. */
  readonly numKeyValueHeads: number | null;
  readonly maxPositionEmbeddings: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

export interface Family {
  readonly modelType: DecoderConfig['modelType'];
  /** transformers' class, for `architectures`. */
  readonly architecture: string;
  readonly defaults: FamilyDefaults;
  readBiases(fields: JsonFields): Pick<DecoderConfig, 'qkvBias' | 'outputBias' | 'mlpBias'>;
  /** Tokens, or null for full causal attention. */
  readSlidingWindow(fields: JsonFields, numHiddenLayers: number): number | null;
  /** The config.json keys that only this family has. Throws UnsupportedError when it cannot express the config. */
  toHf(config: DecoderConfig): Record<string, unknown>;
}
