// A teacher as the segments of a bundle: the graph of each and the weights that fill it.
// Zone: owner (writes them) and edge (runs them). DESIGN sections 4 and 5.
import { Graph } from '../graph/graph.js';
import { encodeModel, type Placement } from '../graph/onnx.js';
import type { DecoderConfig } from './config.js';
import { decoderSpan } from './decoder.js';
import { ForwardLayers, type ForwardOptions } from './forward-layers.js';
import { headLogits } from './head-logits.js';
import type { LinearFormat } from './linear-lowering.js';
import { acceleratorPlan, type Span, spansOf } from './spans.js';
import type { SegmentWeight } from './weights.js';

export interface SegmentGraph {
  readonly span: Span;
  readonly weights: readonly SegmentWeight[];
  /** ONNX bytes; `dataFile` is relative to the model's folder. */
  encode(dataFile: string, placement: ReadonlyMap<string, Placement>): Uint8Array;
}

/**
 * The blocks of a span: input_ids or hidden [batch, tokens, width] and a cache → hidden [batch, tokens, width] and the longer cache.
 * The last span's hidden states are normalised.
 */
function bodySegment(config: DecoderConfig, span: Span, options: ForwardOptions): SegmentGraph {
  const graph = new Graph();
  const layers = new ForwardLayers(graph, config, options);
  const shape = ['batch', 'tokens', config.hiddenSize];
  const entry = span.embedding ? null : graph.input('hidden_in', 'float32', shape);
  graph.output('hidden', decoderSpan(layers, config, span, entry));
  return {
    span,
    weights: layers.weights,
    encode: (dataFile, placement) => encodeModel(graph, dataFile, placement),
  };
}

/** hidden [rows, width], inverse temperature, k → the k largest log-probabilities of each row and their ids. */
function headSegment(config: DecoderConfig, span: Span, format: LinearFormat): SegmentGraph {
  const { hiddenSize, vocabSize } = config;
  const graph = new Graph();
  const hidden = graph.input('hidden', 'float32', ['rows', hiddenSize]);
  const inverseTemperature = graph.input('inverse_temperature', 'float32', []);
  const k = graph.input('k', 'int64', [1]);
  const shape = ['rows', vocabSize];
  const { logits, weights } = headLogits(graph, config, {
    hidden,
    inverseTemperature,
    columns: vocabSize,
    format,
  });
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
    span,
    weights,
    encode: (dataFile, placement) => encodeModel(graph, dataFile, placement),
  };
}

/** The graph of one accelerator span. */
export function buildSegment(config: DecoderConfig, span: Span, options: ForwardOptions = {}): SegmentGraph {
  return span.head ? headSegment(config, span, options.format ?? 'float32') : bodySegment(config, span, options);
}

/** The graphs of a model that lies wholly on the accelerator: the body, then the head. */
export function buildSegments(config: DecoderConfig, options: ForwardOptions = {}): SegmentGraph[] {
  return spansOf(acceleratorPlan(config.numHiddenLayers)).map((span) => buildSegment(config, span, options));
}
