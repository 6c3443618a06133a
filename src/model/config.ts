// The public shape of a decoder-only language model, whatever file it came from (config.json or GGUF metadata).
// Zone: edge and owner. Names are Hugging Face's, in camel case.

/** How rotary frequencies are stretched; `null` in `DecoderConfig` means plain RoPE. */
export type RopeScaling =
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3';
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositionEmbeddings: number;
    };

/** `model_type` of every family that has a file in families/. */
export type ModelType = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'gemma3_text' | 'phi3' | 'gpt2' | 'olmo2';

export interface DecoderConfig {
  readonly modelType: ModelType;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  readonly maxPositionEmbeddings: number;
  /** Local attention window in tokens; null: full causal attention. */
  readonly slidingWindow: number | null;
  /** Biases present on q, k and v. */
  readonly qkvBias: boolean;
  /** Bias present on the attention output projection. */
  readonly outputBias: boolean;
  /** Biases present on gate, up and down. */
  readonly mlpBias: boolean;
  /** The head shares the embedding's tensor. */
  readonly tieWordEmbeddings: boolean;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | null;
  /** Standard deviation of a random initialisation (`initializer_range`). */
  readonly initializerRange: number;
  /** Which blocks use the window, in order; null: every block. */
  readonly slidingBlocks: readonly boolean[] | null;
  /** RoPE base of the blocks with a window, without scaling; null: as in the others. */
  readonly localRopeTheta: number | null;
  /** `learned`: a table is added to the embedding and heads are not rotated. */
  readonly positions: 'rope' | 'learned';
  /** Norms before each sublayer, after it (before the residual sum), or both. */
  readonly norms: 'pre' | 'post' | 'both';
  /** RMSNorm of queries and keys before RoPE: of each `head`, or over the `width` of all heads together. */
  readonly qkNorm: 'head' | 'width' | null;
  /** `gelu`: its tanh approximation. */
  readonly activation: 'silu' | 'gelu';
  /** down(act(gate)·up), otherwise down(act(up)). */
  readonly gatedMlp: boolean;
  /** Factor on q·k; null: 1/√headDim. */
  readonly attentionScale: number | null;
  /** z ↦ cap·tanh(z/cap) on attention scores and on the head's logits. */
  readonly attentionSoftCap: number | null;
  readonly finalSoftCap: number | null;
  /** Bias present on the head's logits (a final LayerNorm's shift, folded). */
  readonly headBias: boolean;
}

/** What a decoder may do otherwise than a plain Llama. */
export type DecoderFeatures = Pick<
  DecoderConfig,
  | 'slidingBlocks'
  | 'localRopeTheta'
  | 'positions'
  | 'norms'
  | 'qkNorm'
  | 'activation'
  | 'gatedMlp'
  | 'attentionScale'
  | 'attentionSoftCap'
  | 'finalSoftCap'
  | 'headBias'
>;

/** The features of a plain Llama, to start a configuration from. */
export const plainFeatures: DecoderFeatures = {
  slidingBlocks: null,
  localRopeTheta: null,
  positions: 'rope',
  norms: 'pre',
  qkNorm: null,
  activation: 'silu',
  gatedMlp: true,
  attentionScale: null,
  attentionSoftCap: null,
  finalSoftCap: null,
  headBias: false,
};

/** The attention window of one block in tokens, or null. */
export function windowOf(config: DecoderConfig, block: number): number | null {
  return config.slidingBlocks === null || config.slidingBlocks[block] === true ? config.slidingWindow : null;
}

/** Whether a block turns its heads with the local RoPE base. */
export function usesLocalRope(config: DecoderConfig, block: number): boolean {
  return config.localRopeTheta !== null && windowOf(config, block) !== null;
}
