// A head that answers about tokens that are asked for, over the whole vocabulary: what evaluation needs of a model that is not locked.
// Zone: edge. It reads the weights of the model's own head segment, so nothing is stored twice. DESIGN section 4.
import { Graph } from '../graph/graph.js';
import { encodeModel } from '../graph/onnx.js';
import type { DecoderConfig } from './config.js';
import { headLogits } from './head-logits.js';
import { placeWeights } from './segment-weights.js';
import type { SegmentGraph } from './segments.js';

/**
 * ONNX bytes of: hidden [rows, width], inverse temperature, ids [rows, k] → `logprobs` [rows, k], `best` [rows] (the largest
 * log-probability of the row) and `rest` [rows] (the probability of every token that is not among the ids, summed without them).
 * `head` is the model's head segment in float32, written to `dataFile`.
 */
export function encodeProbeHead(config: DecoderConfig, head: SegmentGraph, dataFile: string): Uint8Array {
  const { hiddenSize, vocabSize } = config;
  const graph = new Graph();
  const hidden = graph.input('hidden', 'float32', ['rows', hiddenSize]);
  const inverseTemperature = graph.input('inverse_temperature', 'float32', []);
  const ids = graph.input('ids', 'int64', ['rows', 'k']);
  const { logits } = headLogits(graph, config, { hidden, inverseTemperature, columns: vocabSize, format: 'float32' });
  const whole = { shape: ['rows', vocabSize] };
  const asked = { shape: ['rows', 'k'] };
  const row = { shape: ['rows'] };
  const logprobs = graph.emitOne('LogSoftmax', [logits], whole, { axis: -1 });
  const lastAxis = graph.int64s([1]);
  graph.output('logprobs', graph.emitOne('GatherElements', [logprobs, ids], asked, { axis: 1 }));
  graph.output('best', graph.emitOne('ReduceMax', [logprobs, lastAxis], row, { keepdims: 0 }));
  const size = graph.emitOne('Shape', [ids], { shape: [2], dtype: 'int64' });
  const zeros = graph.emitOne('Expand', [graph.scalar(0), size], asked);
  const probabilities = graph.emitOne('Exp', [logprobs], whole);
  const outside = graph.emitOne('ScatterElements', [probabilities, ids, zeros], whole, { axis: 1 });
  graph.output('rest', graph.emitOne('ReduceSum', [outside, lastAxis], row, { keepdims: 0 }));
  return encodeModel(graph, dataFile, placeWeights(head));
}
