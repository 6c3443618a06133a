// What one model family has of its own: how its config.json is read and written, and how its tensors become those of the one decoder.
// Zone: edge and owner. One file per family, named after `model_type`.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { JsonFields } from '../checkpoint/json-fields.js';
import type { DecoderConfig } from '../config.js';
import type { TensorSource } from '../tensors.js';

export interface FamilyDefaults {
  /** null: as many as query heads. */
  readonly numKeyValueHeads: number | null;
  readonly maxPositionEmbeddings: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  /** Default of `head_dim`; absent: hidden_size / num_attention_heads. */
  readonly headDim?: number;
  readonly tieWordEmbeddings?: boolean;
  readonly rmsNormEps?: number;
  readonly activation?: string;
  readonly ropeTheta?: number;
}

/** What the common keys of a config.json gave, for features that depend on it. */
export type Shape = Pick<DecoderConfig, 'hiddenSize' | 'numHiddenLayers' | 'headDim' | 'maxPositionEmbeddings'>;

export interface Family {
  readonly modelType: DecoderConfig['modelType'];
  /** transformers' class, for `architectures`. */
  readonly architecture: string;
  readonly defaults: FamilyDefaults;
  /** Whether `TrainingLayers` computes it and `toHf` writes it: it may be a student. */
  readonly student: boolean;
  /** `hidden_act` values and what they are called here. */
  readonly activations: Readonly<Record<string, DecoderConfig['activation']>>;
  /** The same settings under Llama's keys, for a family with keys of its own. */
  readonly renameKeys?: (fields: JsonFields) => JsonFields;
  readBiases(fields: JsonFields): Pick<DecoderConfig, 'qkvBias' | 'outputBias' | 'mlpBias'>;
  /** Tokens, or null for full causal attention. */
  readSlidingWindow(fields: JsonFields, numHiddenLayers: number): number | null;
  /** `readFeatures` reads the rotary settings (or there are none): the common reader leaves them alone. */
  readonly readsRope?: true;
  /** What the decoder does otherwise than a plain Llama. */
  readonly readFeatures?: (fields: JsonFields, shape: Shape) => Partial<DecoderConfig>;
  /** The checkpoint's tensors under the decoder's names, shapes and meaning; absent: they already are. */
  readonly importTensors?: (tensors: TensorSource, config: DecoderConfig) => TensorSource;
  /** The config.json keys that only this family has. Throws UnsupportedError when it cannot express the config. */
  toHf(config: DecoderConfig): Record<string, unknown>;
}

/** The usual `activations`. */
export const silu = { silu: 'silu', swish: 'silu' } as const;

/** `toHf` of a family whose checkpoints are read and not written: no student can be saved as one. */
export function notWritten(modelType: string): never {
  throw new UnsupportedError(
    'family-not-written',
    `${modelType} models are read (as teachers) and not written; make the student a llama, mistral, qwen2 or qwen3.`,
    { modelType },
  );
}
