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

export interface DecoderConfig {
  readonly modelType: 'llama' | 'mistral' | 'qwen2';
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
  /** Mistral's local attention window in tokens; null: full causal attention. */
  readonly slidingWindow: number | null;
  /** Biases present on q, k and v. */
  readonly qkvBias: boolean;
  /** Bias present on the attention output projection. */
  readonly outputBias: boolean;
  /** Biases present on gate, up and down. */
  readonly mlpBias: boolean;
  readonly tieWordEmbeddings: boolean;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | null;
  /** Standard deviation of a random initialisation (`initializer_range`). */
  readonly initializerRange: number;
}
