// Training lowering of a decoder: differentiable operators, parameters as graph inputs in the checkpoint's own
// layout ([out, in]), fixed sizes. Zone: edge. DESIGN section 9.
import { fixedShape, type Graph, type Value } from '../graph/graph.js';
import { silu } from '../graph/ops/activation.js';
import { attention, causalMask } from '../graph/ops/attention.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { linear, matmul } from '../graph/ops/matmul.js';
import { rmsNorm } from '../graph/ops/norm.js';
import type { RotaryTables } from '../graph/ops/rotary.js';
import { gatherRows, reshape } from '../graph/ops/shape.js';
import { UnsupportedError } from '../trusted/wire/errors.js';
import { type DecoderConfig, plainFeatures } from './config.js';
import { blockName, type Layers, type Stream } from './decoder.js';
import { familyOf } from './families/index.js';
import { adapterNames, hasAdapter, type LoraConfig, loraScale } from './lora.js';
import { rotaryTables } from './rope.js';

export interface BatchShape {
  readonly batch: number;
  readonly tokens: number;
}

export class TrainingLayers implements Layers {
  /** Parameters by checkpoint name, in the order the decoder asks for them. */
  readonly parameters: Map<string, Value> = new Map();
  readonly #graph: Graph;
  readonly #config: DecoderConfig;
  readonly #shape: BatchShape;
  readonly #trainable: (name: string) => boolean;
  readonly #lora: LoraConfig | null;
  readonly #ids: Value;
  readonly #positions: Value;
  readonly #mask: Value;
  readonly #tables: RotaryTables;

  /**
   * Declares the batch inputs: input_ids int32, position_ids int64 and segment_ids int32, each [batch, tokens].
   * `trainable` says which parameters get a gradient; with `lora` the blocks' linear layers get adapters, which are parameters too.
   * Throws UnsupportedError for a family that cannot be a student.
   */
  constructor(
    graph: Graph,
    config: DecoderConfig,
    shape: BatchShape,
    trainable: (name: string) => boolean,
    lora: LoraConfig | null = null,
  ) {
    assertStudent(config);
    this.#graph = graph;
    this.#config = config;
    this.#shape = shape;
    this.#trainable = trainable;
    this.#lora = lora;
    const size = [shape.batch, shape.tokens];
    this.#ids = graph.input('input_ids', 'int32', size);
    this.#positions = graph.input('position_ids', 'int64', size);
    const segments = graph.input('segment_ids', 'int32', size);
    this.#mask = causalMask(graph, segments, shape.batch, shape.tokens, config.slidingWindow);
    const { cos, sin } = rotaryTables(config, shape.tokens);
    const half = [shape.tokens, config.headDim / 2];
    this.#tables = { cos: graph.constant(cos, half), sin: graph.constant(sin, half) };
  }

  embed(name: string): Value {
    const { vocabSize, hiddenSize } = this.#config;
    const rows = this.#shape.batch * this.#shape.tokens;
    const flat = this.#graph.emitOne('Reshape', [this.#ids, this.#graph.int64s([rows])], {
      dtype: 'int32',
      shape: [rows],
    });
    return gatherRows(this.#graph, this.parameter(`${name}.weight`, [vocabSize, hiddenSize]), flat);
  }

  sum({ residual, pending }: Stream): Value {
    return pending === null ? residual : add(this.#graph, residual, pending);
  }

  norm(stream: Stream, name: string): { normed: Value; residual: Value } {
    const { hiddenSize, rmsNormEps } = this.#config;
    const residual = this.sum(stream);
    return {
      normed: rmsNorm(this.#graph, residual, this.parameter(`${name}.weight`, [hiddenSize]), rmsNormEps),
      residual,
    };
  }

  outputNorm(x: Value, name: string): Value {
    const { hiddenSize, rmsNormEps } = this.#config;
    return rmsNorm(this.#graph, x, this.parameter(`${name}.weight`, [hiddenSize]), rmsNormEps);
  }

  attention(x: Value, index: number): Value {
    const {
      numAttentionHeads: heads,
      numKeyValueHeads: kvHeads,
      headDim,
      hiddenSize,
      qkvBias,
      outputBias,
    } = this.#config;
    const name = (part: string): string => blockName(index, `self_attn.${part}`);
    const q = this.#headNorm(this.#linear(x, name('q_proj'), heads * headDim, qkvBias), name('q_norm'));
    const k = this.#headNorm(this.#linear(x, name('k_proj'), kvHeads * headDim, qkvBias), name('k_norm'));
    const v = this.#linear(x, name('v_proj'), kvHeads * headDim, qkvBias);
    const inputs = { mask: this.#mask, positions: this.#positions, tables: this.#tables };
    const mixed = attention(this.#graph, { q, k, v }, { heads, kvHeads, headDim }, this.#shape, inputs);
    return this.#linear(mixed, name('o_proj'), hiddenSize, outputBias);
  }

  feedForward(x: Value, index: number): Value {
    const { hiddenSize, intermediateSize, mlpBias } = this.#config;
    const name = (part: string): string => blockName(index, `mlp.${part}`);
    const gate = this.#linear(x, name('gate_proj'), intermediateSize, mlpBias);
    const up = this.#linear(x, name('up_proj'), intermediateSize, mlpBias);
    return this.#linear(mul(this.#graph, silu(this.#graph, gate), up), name('down_proj'), hiddenSize, mlpBias);
  }

  /** The head's weight [vocabulary, width]; the embedding itself when tied. */
  headWeight(): Value {
    const { vocabSize, hiddenSize, tieWordEmbeddings } = this.#config;
    return this.parameter(tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight', [vocabSize, hiddenSize]);
  }

  /** The parameter of this checkpoint name, declared as a graph input at its first use. */
  parameter(name: string, shape: readonly number[]): Value {
    const found = this.parameters.get(name);
    if (found) return found;
    const value = this.#graph.input(name, 'float32', shape, this.#trainable(name));
    this.parameters.set(name, value);
    return value;
  }

  // RMSNorm of every head of queries or keys [rows, heads·headDim], where the family has it.
  #headNorm(x: Value, name: string): Value {
    const { qkNorm, headDim, rmsNormEps } = this.#config;
    if (qkNorm === null) return x;
    const [rows, width] = fixedShape(x) as [number, number];
    const heads = reshape(this.#graph, x, [(rows * width) / headDim, headDim]);
    const normed = rmsNorm(this.#graph, heads, this.parameter(`${name}.weight`, [headDim]), rmsNormEps);
    return reshape(this.#graph, normed, [rows, width]);
  }

  #linear(x: Value, name: string, out: number, bias: boolean): Value {
    const width = fixedShape(x).at(-1)!;
    const product = this.#adapted(x, linear(this.#graph, x, this.parameter(`${name}.weight`, [out, width])), name);
    return bias ? add(this.#graph, product, this.parameter(`${name}.bias`, [out])) : product;
  }

  // x·Wᵀ + scale·x·Aᵀ·Bᵀ, where the layer has an adapter.
  #adapted(x: Value, product: Value, name: string): Value {
    const lora = this.#lora;
    if (lora === null || !hasAdapter(name, lora)) return product;
    const names = adapterNames(name);
    const a = this.parameter(names.a, [lora.r, fixedShape(x).at(-1)!]);
    const b = this.parameter(names.b, [fixedShape(product).at(-1)!, lora.r]);
    const low = linear(this.#graph, x, a);
    return add(this.#graph, product, matmul(this.#graph, low, b, { transB: true, alpha: loraScale(lora) }));
  }
}

/**
 * Throws UnsupportedError('student-unsupported') unless the lowering above computes this decoder (gated SiLU blocks with norms before the
 * sublayers, RoPE of one base, one window for all) and its family can be written.
 */
export function assertStudent(config: DecoderConfig): void {
  const trained: Partial<DecoderConfig> = {
    ...plainFeatures,
    qkNorm: config.qkNorm === 'width' ? null : config.qkNorm,
  };
  const feature = (Object.keys(trained) as (keyof DecoderConfig)[]).find((key) => config[key] !== trained[key]);
  if (feature === undefined && familyOf(config.modelType, 'student').student) return;
  throw new UnsupportedError(
    'student-unsupported',
    `a ${config.modelType} model cannot be a student${feature === undefined ? '' : ` (${feature})`}: it can only be a teacher. Take a llama, mistral, qwen2 or qwen3 shape.`,
    { modelType: config.modelType },
  );
}
