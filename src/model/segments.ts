// A teacher as the segments of a bundle: the graph of each and the weights that fill it.
// Zone: owner (writes them) and edge (runs them). DESIGN sections 4 and 5.
import { Graph } from '../graph/graph.js';
import { encodeModel, type Placement } from '../graph/onnx.js';
import type { DecoderConfig } from './config.js';
import { decoderBody } from './decoder.js';
import { ForwardLayers } from './forward-layers.js';

/** What a weight does to the residual stream and the vocabulary; a lock transforms each role in its own way. */
export type WeightRole =
  | 'embedding'
  | 'residual-reader'
  | 'residual-writer'
  | 'head'
  | 'norm'
  | 'bias'
  | 'residual-bias';

export interface SegmentWeight {
  readonly name: string;
  /** [in, out] for products, [vocabulary, width] for the embedding, [n] for gains and biases. */
  readonly shape: readonly number[];
  readonly role: WeightRole;
  /** Checkpoint tensors it is made of; several are joined along columns (q|k|v). Linear ones are stored [out, in]. */
  readonly parts: readonly string[];
}

export interface SegmentGraph {
  readonly index: number;
  readonly name: 'body' | 'head';
  readonly weights: readonly SegmentWeight[];
  /** ONNX bytes; `dataFile` is relative to the model's folder. */
  encode(dataFile: string, placement: ReadonlyMap<string, Placement>): Uint8Array;
}

/** Embedding to final norm: input_ids [batch, tokens] and a cache → hidden [batch, tokens, width] and the longer cache. */
function bodySegment(config: DecoderConfig): SegmentGraph {
  const graph = new Graph();
  const layers = new ForwardLayers(graph, config);
  graph.output('hidden', decoderBody(layers, config));
  return {
    index: 0,
    name: 'body',
    weights: layers.weights,
    encode: (dataFile, placement) => encodeModel(graph, dataFile, placement),
  };
}

/** hidden [rows, width], inverse temperature, k → the k largest log-probabilities of each row and their ids. */
function headSegment(config: DecoderConfig): SegmentGraph {
  const { hiddenSize, vocabSize } = config;
  const graph = new Graph();
  const hidden = graph.input('hidden', 'float32', ['rows', hiddenSize]);
  const inverseTemperature = graph.input('inverse_temperature', 'float32', []);
  const k = graph.input('k', 'int64', [1]);
  const source = config.tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight';
  const weight: SegmentWeight = {
    name: 'lm_head.weight',
    shape: [hiddenSize, vocabSize],
    role: 'head',
    parts: [source],
  };
  // Scaling the hidden state by 1/T scales every logit at a fraction of the cost.
  const scaled = graph.emitOne('Mul', [hidden, inverseTemperature], { shape: ['rows', hiddenSize] });
  const shape = ['rows', vocabSize];
  const logits = graph.emitOne('MatMul', [scaled, graph.weight(weight.name, weight.shape as number[])], { shape });
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
export function buildSegments(config: DecoderConfig): SegmentGraph[] {
  return [bodySegment(config), headSegment(config)];
}
