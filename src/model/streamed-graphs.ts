// A decoder as graphs whose weights are inputs, one small graph per part: whoever runs them streams the weights past a large batch of tokens.
// Zone: owner (builds them at lock time), enclave and benches (run them). DESIGN sections 4 and 6. Blocks are those of decoder.ts.
import { type Dim, type DType, Graph, type Value } from '../graph/graph.js';
import { encodeModel } from '../graph/onnx.js';
import type { DecoderConfig } from './config.js';
import { decoderBlock } from './decoder.js';
import { ForwardLayers } from './forward-layers.js';
import { int8Product, quantiseRows } from './linear-lowering.js';
import { scalesName } from './quantise.js';
import { headWeight, type SegmentWeight } from './segments.js';

export type StreamedFormat = 'float32' | 'int8';

export interface StreamedGraph {
  /** ONNX bytes without any weight. Parts of the same shape have the same bytes: one session runs them all. */
  readonly model: Uint8Array;
  /** What fills its weight inputs, in the order of the graph. */
  readonly weights: readonly StreamedWeight[];
}

export interface StreamedWeight {
  readonly weight: SegmentWeight;
  /** One input for a float32 weight; codes [in, out] and scales [out] for an int8 one. */
  readonly inputs: readonly WeightInput[];
}

export interface WeightInput {
  readonly name: string;
  readonly dtype: DType;
  /** [width, 'columns'] for the head, whose tiles may differ. */
  readonly shape: readonly Dim[];
}

/** A graph whose weights are inputs, and whose names do not tell which block it is. */
class WeightlessGraph extends Graph {
  readonly #index: number;
  readonly weightInputs = new Map<string, WeightInput>();

  constructor(index = 0) {
    super();
    this.#index = index;
  }

  override input(name: string, dtype: DType, shape: Value['shape']): Value {
    return super.input(this.#anonymous(name), dtype, shape);
  }

  override weight(name: string, shape: readonly Dim[], dtype: DType = 'float32'): Value {
    const value = this.input(name, dtype, shape);
    this.weightInputs.set(name, { name: value.name, dtype, shape });
    return value;
  }

  override output(name: string, value: Value): void {
    super.output(this.#anonymous(name), value);
  }

  #anonymous(name: string): string {
    return name.replace(`model.layers.${this.#index}.`, '').replace(/^((?:past|present)_(?:key|value))_\d+$/, '$1');
  }
}

function finish(graph: WeightlessGraph, weights: readonly SegmentWeight[]): StreamedGraph {
  const inputsOf = (weight: SegmentWeight): WeightInput[] =>
    [...graph.weightInputs]
      .filter(([name]) => name === weight.name || name.startsWith(`${weight.name}.`))
      .map(([, input]) => input);
  return { model: encodeModel(graph), weights: weights.map((weight) => ({ weight, inputs: inputsOf(weight) })) };
}

/**
 * Block `index`. Inputs: hidden [batch, tokens, width], seqlens_k [batch], total_sequence_length, rope_cos and rope_sin, past_key and
 * past_value [batch, kv heads, past, head width], weights; for some head widths position_ids. Outputs: next [batch, tokens, width], which
 * may be the buffer of hidden, present_key and present_value. int8 wants weights locked by scheme `rotation`.
 */
export function buildBlock(config: DecoderConfig, index: number, format: StreamedFormat): StreamedGraph {
  const graph = new WeightlessGraph(index);
  const layers = new ForwardLayers(graph, config, format);
  const hidden = graph.input('hidden', 'float32', ['batch', 'tokens', config.hiddenSize]);
  const { residual, pending } = decoderBlock(layers, index, { residual: hidden, pending: null });
  const sum = pending === null ? residual : graph.emitOne('Add', [residual, pending], { shape: hidden.shape });
  graph.output('next', sum);
  return finish(graph, layers.weights);
}

/**
 * The norm before the head: hidden [batch, tokens, width] → normed. For int8 normed is uint8, as the head reads it, and row_factors
 * [batch, tokens, 1] come with it.
 */
export function buildFinalNorm(config: DecoderConfig, format: StreamedFormat): StreamedGraph {
  const graph = new WeightlessGraph();
  const layers = new ForwardLayers(graph, config, format);
  // Attention's inputs are of no use here.
  graph.inputs.length = 0;
  const hidden = graph.input('hidden', 'float32', ['batch', 'tokens', config.hiddenSize]);
  const { normed } = layers.norm({ residual: hidden, pending: null }, 'model.norm');
  if (format === 'int8') {
    const { codes, factors } = quantiseRows(graph, normed);
    graph.output('normed', codes);
    graph.output('row_factors', factors);
  } else {
    graph.output('normed', normed);
  }
  return finish(graph, layers.weights);
}

/**
 * The head over one tile of the vocabulary's columns. Inputs: normed [rows, width], lm_head.weight [width, columns], for int8 also
 * row_factors [rows, 1] and the tile's scales [columns], inverse_temperature, k [1]. Outputs: top_logits and top_ids [rows, k], by falling
 * logit, ids within the tile; log_sums [rows, 1]. `TopKRows` (head-tiles.ts) combines them. The listed weight is the whole head: cut its
 * columns by `headTiles`.
 */
export function buildHeadTile(config: DecoderConfig, format: StreamedFormat): StreamedGraph {
  const graph = new WeightlessGraph();
  const normed = graph.input('normed', format === 'int8' ? 'uint8' : 'float32', ['rows', config.hiddenSize]);
  const inverseTemperature = graph.input('inverse_temperature', 'float32', []);
  const k = graph.input('k', 'int64', [1]);
  const weight = { ...headWeight(config), format };
  const w = graph.weight(weight.name, [config.hiddenSize, 'columns'], format);
  const shape = ['rows', 'columns'];
  let logits: Value;
  // Scaling what is narrow scales every logit at a fraction of the cost.
  if (format === 'int8') {
    const rowFactors = graph.input('row_factors', 'float32', ['rows', 1]);
    const factors = graph.emitOne('Mul', [rowFactors, inverseTemperature], { shape: rowFactors.shape });
    logits = int8Product(graph, { codes: normed, factors }, w, graph.weight(scalesName(weight.name), ['columns']));
  } else {
    const scaled = graph.emitOne('Mul', [normed, inverseTemperature], { shape: normed.shape });
    logits = graph.emitOne('MatMul', [scaled, w], { shape });
  }
  const top = graph.emit('TopK', [logits, k], [{ shape: ['rows', 'k'] }, { shape: ['rows', 'k'], dtype: 'int64' }], {
    axis: -1,
    largest: 1,
    sorted: 1,
  });
  const column = { shape: ['rows', 1] };
  const [zero, one] = [graph.int64s([0]), graph.int64s([1])];
  const largest = graph.emitOne('Slice', [top[0]!, zero, one, one], column);
  const exponents = graph.emitOne('Exp', [graph.emitOne('Sub', [logits, largest], { shape })], { shape });
  const sum = graph.emitOne('ReduceSum', [exponents, one], column, { keepdims: 1 });
  const logSum = graph.emitOne('Add', [graph.emitOne('Log', [sum], column), largest], column);
  graph.output('top_logits', top[0]!);
  // Cast: TensorProto.INT32 = 6.
  graph.output('top_ids', graph.emitOne('Cast', [top[1]!], { shape: ['rows', 'k'], dtype: 'int32' }, { to: 6 }));
  graph.output('log_sums', logSum);
  return finish(graph, [weight]);
}
