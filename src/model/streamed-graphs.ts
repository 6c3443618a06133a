// A decoder as graphs whose weights are inputs, one small graph per part: whoever runs them streams the weights past a large batch of tokens.
// Zone: owner (builds them at lock time), enclave and benches (run them). DESIGN sections 4 and 6. Blocks are those of decoder.ts.
import { type Dim, type DType, Graph, type Value } from '../graph/graph.js';
import { encodeModel } from '../graph/onnx.js';
import type { DecoderConfig } from './config.js';
import { decoderBlock } from './decoder.js';
import { ForwardLayers, type ForwardOptions } from './forward-layers.js';
import { headLogits } from './head-logits.js';
import type { SegmentWeight } from './weights.js';

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

/** A graph whose weights are inputs, and whose names do not tell which block it is, nor which rotary tables it reads. */
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
    return name
      .replace(`model.layers.${this.#index}.`, '')
      .replace(/^((?:past|present)_(?:key|value))_\d+$/, '$1')
      .replace(/^(rope_(?:cos|sin))_local$/, '$1');
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
 * Block `index`. Inputs: hidden [batch, tokens, width], seqlens_k [batch], total_sequence_length, rope_cos and rope_sin of this block's
 * own base (none where positions are learned), past_key and past_value [batch, kv heads, past, head width], weights; for some head widths
 * position_ids. Outputs: next [batch, tokens, width], which may be the buffer of hidden, present_key and present_value. int8 wants weights
 * locked by scheme `rotation`.
 */
export function buildBlock(
  config: DecoderConfig,
  index: number,
  format: StreamedFormat,
  options: Omit<ForwardOptions, 'format'> = {},
): StreamedGraph {
  const graph = new WeightlessGraph(index);
  const layers = new ForwardLayers(graph, config, { ...options, format });
  const hidden = graph.input('hidden', 'float32', ['batch', 'tokens', config.hiddenSize]);
  graph.output('next', layers.sum(decoderBlock(layers, config, index, { residual: hidden, pending: null })));
  return finish(graph, layers.weights);
}

/**
 * Block `index` as far as x [batch, tokens, in], what its matrix `name` reads; `outputs` says what of x comes out. Inputs are those of the
 * block that x depends on, and what `outputs` adds.
 */
export function buildReader(
  config: DecoderConfig,
  index: number,
  name: string,
  options: Omit<ForwardOptions, 'format'>,
  outputs: (graph: Graph, x: Value) => void,
): StreamedGraph {
  const graph = new WeightlessGraph(index);
  let found: { readonly x: Value; readonly nodes: number; readonly inputs: number } | undefined;
  const onProduct = (_: Graph, x: Value, weight: SegmentWeight): void => {
    if (weight.name === name) found = { x, nodes: graph.nodes.length, inputs: graph.inputs.length };
  };
  const layers = new ForwardLayers(graph, config, { ...options, format: 'float32', onProduct });
  const hidden = graph.input('hidden', 'float32', ['batch', 'tokens', config.hiddenSize]);
  decoderBlock(layers, config, index, { residual: hidden, pending: null });
  const { x, nodes, inputs } = found!;
  // What follows x would run for nothing.
  graph.nodes.length = nodes;
  graph.inputs.length = inputs;
  graph.outputs.length = 0;
  outputs(graph, x);
  return finish(graph, layers.weights);
}

/** The norm before the head: hidden [rows, width] → mapped [rows, width]. */
export function buildFinalNorm(config: DecoderConfig): StreamedGraph {
  const graph = new WeightlessGraph();
  const layers = new ForwardLayers(graph, config);
  const hidden = graph.input('hidden', 'float32', ['rows', config.hiddenSize]);
  graph.output('mapped', layers.norm({ residual: hidden, pending: null }, 'model.norm').normed);
  return finish(graph, layers.weights);
}

/**
 * The head over one tile of the vocabulary's columns. Inputs: hidden [rows, width] after the final norm, lm_head.weight [width, columns],
 * for int8 also the tile's scales [columns], lm_head.bias [columns] where the model has one, inverse_temperature, k [1]. Outputs: top_logits and top_ids [rows, k], by falling logit, ids
 * within the tile; log_sums [rows, 1]. `TopKRows` (trusted/enclave/top-k.ts) combines them. The listed weights are the whole head's: cut
 * their columns by `headTiles`.
 */
export function buildHeadTile(config: DecoderConfig, format: StreamedFormat): StreamedGraph {
  const graph = new WeightlessGraph();
  const normed = graph.input('hidden', 'float32', ['rows', config.hiddenSize]);
  const inverseTemperature = graph.input('inverse_temperature', 'float32', []);
  const k = graph.input('k', 'int64', [1]);
  const shape = ['rows', 'columns'];
  const inputs = { hidden: normed, inverseTemperature, columns: 'columns', format };
  const { logits, weights } = headLogits(graph, config, inputs);
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
  return finish(graph, weights);
}

/**
 * Floats per token at the peak of one block: norms, projections and the feed-forward's inside; the runtime reuses some of it.
 * Norms of heads and of sublayer outputs have copies of their own.
 */
export function activationFloats(config: DecoderConfig): number {
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, hiddenSize, intermediateSize } = config;
  const streams = config.norms === 'pre' ? 6 : 8;
  const headCopies = config.qkNorm === null ? 2 : 3;
  return streams * hiddenSize + headCopies * (heads + 2 * kvHeads) * headDim + 4 * intermediateSize;
}
