// The weights of a model as a lock sees them: what each is made of, and which space each of its axes lives in.
// Zone: owner and edge. DESIGN section 3.
import type { DecoderConfig } from './config.js';
import type { LinearFormat } from './linear-lowering.js';

/**
 * The space that one axis of a weight lives in. A lock gives each space a change of basis: whoever writes into the space is multiplied
 * by it, whoever reads from it by its inverse. `query` … `neurons` exist once per block; `heads` is what attention hands to its output
 * projection, `neurons` what the feed-forward's inside hands to `down`; `attention-out` and `feed-forward-out` are what a sublayer hands
 * to the norm of its output, where that norm is followed by a matrix; `position` and `head` (one head's width) stay as they are.
 */
export type Space =
  | 'vocabulary'
  | 'residual'
  | 'query'
  | 'key'
  | 'value'
  | 'heads'
  | 'gate'
  | 'up'
  | 'neurons'
  | 'attention-out'
  | 'feed-forward-out'
  | 'position'
  | 'head';

export interface SegmentWeight {
  readonly name: string;
  /**
   * `matrix` [in, out], read from checkpoint tensors stored [out, in]; `table` [rows, width], stored as it is; `bias` and `gain` [n].
   * A gain multiplies its space element by element; `diagonal` [n, n] is the matrix with a gain's tensor on its diagonal.
   */
  readonly kind: 'matrix' | 'table' | 'bias' | 'gain' | 'diagonal';
  readonly shape: readonly number[];
  /** Which block's spaces are meant; null outside blocks. */
  readonly block: number | null;
  /** Space of the first axis of a matrix or table; null for vectors. */
  readonly rows: Space | null;
  /** Checkpoint tensors it is made of and the space of the columns each fills; several are joined along columns (q|k|v). */
  readonly parts: readonly { readonly tensor: string; readonly columns: Space }[];
  /** The norm right before a matrix that reads the residual: its gain may be folded into the rows. */
  readonly gain: string | null;
  /** How it is stored; float32 when absent. */
  readonly format?: LinearFormat;
}

export function sizeOfWeight(weight: SegmentWeight): number {
  return weight.shape.reduce((product, length) => product * length, 1);
}

/** The token embedding [vocabulary, width]. */
export function embeddingWeight(config: DecoderConfig): SegmentWeight {
  return {
    name: 'model.embed_tokens.weight',
    kind: 'table',
    shape: [config.vocabSize, config.hiddenSize],
    block: null,
    rows: 'vocabulary',
    parts: [{ tensor: 'model.embed_tokens.weight', columns: 'residual' }],
    gain: null,
  };
}

/** What a model with learned positions adds to its embedding [positions, width]. */
export function positionsWeight(config: DecoderConfig): SegmentWeight {
  return {
    name: 'model.embed_positions.weight',
    kind: 'table',
    shape: [config.maxPositionEmbeddings, config.hiddenSize],
    block: null,
    rows: 'position',
    parts: [{ tensor: 'model.embed_positions.weight', columns: 'residual' }],
    gain: null,
  };
}

/** The head's matrix [width, vocabulary]. */
export function headWeight(config: DecoderConfig): SegmentWeight {
  return {
    name: 'lm_head.weight',
    kind: 'matrix',
    shape: [config.hiddenSize, config.vocabSize],
    block: null,
    rows: 'residual',
    parts: [
      { tensor: config.tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight', columns: 'vocabulary' },
    ],
    gain: 'model.norm.weight',
  };
}

/** The bias of the head's logits [vocabulary], where a model has one. */
export function headBiasWeight(config: DecoderConfig): SegmentWeight {
  const name = 'lm_head.bias';
  const parts = [{ tensor: name, columns: 'vocabulary' }] as const;
  return { name, kind: 'bias', shape: [config.vocabSize], block: null, rows: null, parts, gain: null };
}
