// A teacher as the segments of a bundle: the graph of each and the weights that fill it.
// Zone: owner (writes them) and edge (runs them). DESIGN sections 4 and 5.
import { Graph } from '../graph/graph.js';
import { encodeModel, type Placement } from '../graph/onnx.js';
import type { DecoderConfig } from './config.js';
import { decoderBody } from './decoder.js';
import { ForwardLayers } from './forward-layers.js';
import { createLinear, type LinearFormat } from './linear-lowering.js';

/**
 * The space that one axis of a weight lives in. A lock gives each space a change of basis: whoever writes into the space is multiplied
 * by it, whoever reads from it by its inverse. `query` … `neurons` exist once per block; `heads` is what attention hands to its output
 * projection, `neurons` what the feed-forward's inside hands to `down`; `position` and `head` (one head's width) stay as they are.
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
  | 'position'
  | 'head';

export interface SegmentWeight {
  readonly name: string;
  /**
   * `matrix` [in, out], read from checkpoint tensors stored [out, in]; `table` [rows, width], stored as it is; `bias` and `gain` [n].
   * A gain multiplies its space element by element.
   */
  readonly kind: 'matrix' | 'table' | 'bias' | 'gain';
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

export interface SegmentGraph {
  readonly index: number;
  readonly name: 'body' | 'head';
  readonly weights: readonly SegmentWeight[];
  /** ONNX bytes; `dataFile` is relative to the model's folder. */
  encode(dataFile: string, placement: ReadonlyMap<string, Placement>): Uint8Array;
}

/** Embedding to final norm: input_ids [batch, tokens] and a cache → hidden [batch, tokens, width] and the longer cache. */
function bodySegment(config: DecoderConfig, format: LinearFormat): SegmentGraph {
  const graph = new Graph();
  const layers = new ForwardLayers(graph, config, format);
  graph.output('hidden', decoderBody(layers, config));
  return {
    index: 0,
    name: 'body',
    weights: layers.weights,
    encode: (dataFile, placement) => encodeModel(graph, dataFile, placement),
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

/** hidden [rows, width], inverse temperature, k → the k largest log-probabilities of each row and their ids. */
function headSegment(config: DecoderConfig, format: LinearFormat): SegmentGraph {
  const { hiddenSize, vocabSize } = config;
  const graph = new Graph();
  const hidden = graph.input('hidden', 'float32', ['rows', hiddenSize]);
  const inverseTemperature = graph.input('inverse_temperature', 'float32', []);
  const k = graph.input('k', 'int64', [1]);
  const weight = { ...headWeight(config), format };
  // Scaling the hidden state by 1/T scales every logit at a fraction of the cost.
  const scaled = graph.emitOne('Mul', [hidden, inverseTemperature], { shape: ['rows', hiddenSize] });
  const shape = ['rows', vocabSize];
  const logits = createLinear(graph, format).product(scaled, weight);
  const logprobs = graph.emitOne('LogSoftmax', [logits], { shape }, { axis: -1 });
  const top = graph.emit('TopK', [logprobs, k], [{ shape: ['rows', 'k'] }, { shape: ['rows', 'k'], dtype: 'int64' }], {
    axis: -1,
    largest: 1,
    sorted: 1,
  });
  graph.output('topk_logprobs', top[0]!);
  // Cast: TensorProto.INT32 = 6.
  graph.output('topk_ids', graph.emitOne('Cast', [top[1]!], { shape: ['rows', 'k'], dtype: 'int32' }, { to: 6 }));
  return {
    index: 1,
    name: 'head',
    weights: [weight],
    encode: (dataFile, placement) => encodeModel(graph, dataFile, placement),
  };
}

/** The graphs of a teacher whose parts all lie on the accelerator: the body, then the head. */
export function buildSegments(config: DecoderConfig, format: LinearFormat = 'float32'): SegmentGraph[] {
  return [bodySegment(config, format), headSegment(config, format)];
}
