// Forward-only lowering of a decoder: fused operators of ONNX Runtime, weights [in, out] in an external data file (or as the graph
// places them), a key/value cache per block. Zone: edge and owner. DESIGN sections 5 and 9.
import type { DType, Graph, Value } from '../graph/graph.js';
import { split } from '../graph/ops/shape.js';
import { UnsupportedError } from '../trusted/wire/errors.js';
import { type DecoderConfig, usesLocalRope, windowOf } from './config.js';
import { blockName, type Layers, normNames, type Stream } from './decoder.js';
import { createLinear, type LinearFormat, type LinearLowering } from './linear-lowering.js';
import { ropeInputs } from './rope.js';
import { embeddingWeight, positionsWeight, type SegmentWeight, type Space } from './weights.js';

const contrib = 'com.microsoft';
// GroupQueryAttention computes only heads whose width is a multiple of the one, and rotates only of the other (runtime 1.30).
const fusedHeadMultiple = 8;
const fusedRotaryMultiple = 16;

export interface ForwardOptions {
  /** How products are computed; float32 when absent. */
  readonly format?: LinearFormat;
  /**
   * The norm of a sublayer's output is followed by a matrix in place of its gain, so that the output may live in a basis of its own
   * (`attention-out`, `feed-forward-out`). Only for families with such norms.
   */
  readonly denseOutputGains?: boolean;
  /** Told of every product with a matrix of a block: what goes in, and the matrix. */
  readonly onProduct?: (graph: Graph, x: Value, weight: SegmentWeight) => void;
}

/** A linear layer: its matrix [in, out], the checkpoint modules its columns come from, and the norm before it. */
interface Linear {
  readonly shape: readonly [number, number];
  readonly block: number;
  readonly rows: Space;
  readonly columns: Readonly<Record<string, Space>>;
  readonly gain: string | null;
  readonly bias: boolean;
}

export class ForwardLayers implements Layers {
  readonly weights: SegmentWeight[] = [];
  readonly #graph: Graph;
  readonly #config: DecoderConfig;
  readonly #products: LinearLowering;
  /** Of matrices in place of gains: int8 activations would cost more than int8 weights save. */
  readonly #gains: LinearLowering;
  /** Whether the fused attention operator rotates heads of this width itself. */
  readonly #fusedRotary: boolean;
  readonly #denseOutputGains: boolean;
  readonly #onProduct: ForwardOptions['onProduct'];
  readonly #inputs: Map<string, Value> = new Map();
  #unitGain: Value | null = null;

  /** Throws UnsupportedError for a head width that the runtime's attention does not compute. */
  constructor(graph: Graph, config: DecoderConfig, options: ForwardOptions = {}) {
    const { headDim } = config;
    if (headDim % fusedHeadMultiple !== 0) {
      throw new UnsupportedError(
        'head-width',
        `head_dim is ${headDim}: the runtime's attention needs a multiple of ${fusedHeadMultiple}; use a model with such heads.`,
        { key: 'head_dim' },
      );
    }
    this.#graph = graph;
    this.#config = config;
    this.#products = createLinear(graph, options.format ?? 'float32');
    this.#gains = options.format === 'int8' ? createLinear(graph, 'float32') : this.#products;
    this.#onProduct = options.onProduct;
    this.#denseOutputGains = options.denseOutputGains === true && config.norms !== 'pre';
    this.#fusedRotary = config.positions === 'rope' && headDim % fusedRotaryMultiple === 0;
  }

  /** Declares input_ids [batch, tokens]; position_ids too where positions are learned. */
  embed(): Value {
    const ids = this.#input('input_ids', 'int32', ['batch', 'tokens']);
    const shape = ['batch', 'tokens', this.#config.hiddenSize];
    const rowsOf = (weight: SegmentWeight, rows: Value): Value =>
      this.#graph.emitOne('Gather', [this.#weight(weight), rows], { shape }, { axis: 0 });
    const tokens = rowsOf(embeddingWeight(this.#config), ids);
    if (this.#config.positions === 'rope') return tokens;
    return this.#graph.emitOne('Add', [tokens, rowsOf(positionsWeight(this.#config), this.#positions())], { shape });
  }

  sum({ residual, pending }: Stream): Value {
    if (pending === null) return residual;
    return this.#graph.emitOne('Add', [residual, pending], { shape: residual.shape });
  }

  norm(stream: Stream, name: string): { normed: Value; residual: Value } {
    const { hiddenSize, rmsNormEps } = this.#config;
    const gain = this.#vector(`${name}.weight`, hiddenSize, 'gain', null, [
      { tensor: `${name}.weight`, columns: 'residual' },
    ]);
    const shape = ['batch', 'tokens', hiddenSize];
    if (stream.pending === null) {
      return { normed: this.#rmsNorm(stream.residual, gain), residual: stream.residual };
    }
    // Outputs: normalised, mean (unused), inverse deviation (unused), sum.
    const outputs = this.#graph.emit(
      'SkipSimplifiedLayerNormalization',
      [stream.pending, stream.residual, gain],
      [{ shape }, { shape: ['batch', 'tokens', 1] }, { shape: ['batch', 'tokens', 1] }, { shape }],
      { epsilon: { float: rmsNormEps } },
      contrib,
    );
    return { normed: outputs[0]!, residual: outputs[3]! };
  }

  outputNorm(x: Value, name: string, index: number): Value {
    const { hiddenSize } = this.#config;
    const tensor = `${name}.weight`;
    const parts = [{ tensor, columns: 'residual' }] as const;
    if (!this.#denseOutputGains) return this.#rmsNorm(x, this.#vector(tensor, hiddenSize, 'gain', index, parts));
    this.#unitGain ??= this.#graph.constant(new Float32Array(hiddenSize).fill(1), [hiddenSize]);
    const rows =
      normNames(this.#config.norms, index, 'attention').after === name ? 'attention-out' : 'feed-forward-out';
    const shape = [hiddenSize, hiddenSize];
    const { format } = this.#gains;
    const matrix = { name: tensor, kind: 'diagonal', shape, block: index, rows, parts, gain: null, format } as const;
    return this.#multiplied(this.#gains, this.#rmsNorm(x, this.#unitGain), matrix);
  }

  #rmsNorm(x: Value, gain: Value): Value {
    const attributes = { axis: -1, epsilon: { float: this.#config.rmsNormEps }, stash_type: 1 };
    return this.#graph.emitOne('SimplifiedLayerNormalization', [x, gain], { shape: x.shape }, attributes);
  }

  attention(x: Value, index: number): Value {
    const config = this.#config;
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, hiddenSize } = config;
    const name = (part: string): string => blockName(index, `self_attn.${part}`);
    const qkv = this.#linear(x, name('qkv_proj'), {
      shape: [hiddenSize, (heads + 2 * kvHeads) * headDim],
      block: index,
      rows: 'residual',
      columns: { [name('q_proj')]: 'query', [name('k_proj')]: 'key', [name('v_proj')]: 'value' },
      gain: this.#gainBefore(index, 'attention'),
      bias: config.qkvBias,
    });
    const cacheShape = ['batch', kvHeads, 'past', headDim];
    const pastKey = this.#graph.input(`past_key_${index}`, 'float32', cacheShape);
    const pastValue = this.#graph.input(`past_value_${index}`, 'float32', cacheShape);
    const present = ['batch', kvHeads, 'total', headDim];
    const window = windowOf(config, index);
    const separate = config.qkNorm !== null || !this.#fusedRotary;
    const [mixed, key, value] = this.#graph.emit(
      'GroupQueryAttention',
      [
        ...(separate ? this.#heads(qkv, index) : [qkv, null, null]),
        ...[pastKey, pastValue, this.#input('seqlens_k', 'int32', ['batch'])],
        this.#input('total_sequence_length', 'int32', []),
        ...(this.#fusedRotary ? this.#rotary(index) : []),
      ],
      [{ shape: ['batch', 'tokens', heads * headDim] }, { shape: present }, { shape: present }],
      {
        num_heads: heads,
        kv_num_heads: kvHeads,
        do_rotary: this.#fusedRotary ? 1 : 0,
        ...(window === null ? {} : { local_window_size: window }),
        ...(config.attentionScale === null ? {} : { scale: { float: config.attentionScale } }),
        ...(config.attentionSoftCap === null ? {} : { softcap: { float: config.attentionSoftCap } }),
      },
      contrib,
    ) as [Value, Value, Value];
    this.#graph.output(`present_key_${index}`, key);
    this.#graph.output(`present_value_${index}`, value);
    return this.#linear(mixed, name('o_proj'), {
      shape: [heads * headDim, hiddenSize],
      block: index,
      rows: 'heads',
      columns: { [name('o_proj')]: this.#denseOutputGains ? 'attention-out' : 'residual' },
      gain: null,
      bias: config.outputBias,
    });
  }

  // Inputs are declared where they are first read: a span or block takes no more than it needs.
  #input(name: string, dtype: DType, shape: Value['shape']): Value {
    const found = this.#inputs.get(name);
    if (found) return found;
    const value = this.#graph.input(name, dtype, shape);
    this.#inputs.set(name, value);
    return value;
  }

  #positions(): Value {
    return this.#input('position_ids', 'int64', ['batch', 'tokens']);
  }

  // The rotary tables that a block reads.
  #rotary(index: number): readonly [cos: Value, sin: Value] {
    const { cos, sin } = ropeInputs[usesLocalRope(this.#config, index) ? 'local' : 'global'];
    const shape = ['positions', this.#config.headDim / 2];
    return [this.#input(cos, 'float32', shape), this.#input(sin, 'float32', shape)];
  }

  // q, k and v apart: normalised where the family does, and rotated where the fused operator does not.
  #heads(qkv: Value, index: number): Value[] {
    const { numAttentionHeads, numKeyValueHeads, headDim, positions } = this.#config;
    const counts = [numAttentionHeads, numKeyValueHeads, numKeyValueHeads];
    const pieces = split(
      this.#graph,
      qkv,
      counts.map((count) => count * headDim),
      2,
    );
    return pieces.map((piece, i) => {
      if (i === 2) return piece;
      const normed = this.#headNorm(piece, index, i === 0 ? 'query' : 'key', counts[i]!);
      if (this.#fusedRotary || positions === 'learned') return normed;
      const inputs = [normed, this.#positions(), ...this.#rotary(index)];
      return this.#graph.emitOne('RotaryEmbedding', inputs, { shape: piece.shape }, { num_heads: counts[i]! }, contrib);
    });
  }

  // RMSNorm of queries or keys [batch, tokens, heads·headDim]: of each head, or over all of them.
  #headNorm(x: Value, index: number, space: 'query' | 'key', heads: number): Value {
    const { qkNorm, headDim } = this.#config;
    if (qkNorm === null) return x;
    const tensor = blockName(index, `self_attn.${space === 'query' ? 'q' : 'k'}_norm.weight`);
    const perHead = qkNorm === 'head';
    const columns = perHead ? 'head' : space;
    const gain = this.#vector(tensor, perHead ? headDim : heads * headDim, 'gain', index, [{ tensor, columns }]);
    if (!perHead) return this.#rmsNorm(x, gain);
    const view = (value: Value, sizes: number[], shape: Value['shape']): Value =>
      this.#graph.emitOne('Reshape', [value, this.#graph.int64s(sizes)], { shape });
    const split = view(x, [0, 0, heads, headDim], ['batch', 'tokens', heads, headDim]);
    return view(this.#rmsNorm(split, gain), [0, 0, heads * headDim], x.shape);
  }

  feedForward(x: Value, index: number): Value {
    const { hiddenSize, intermediateSize, gatedMlp, mlpBias: bias } = this.#config;
    const gain = this.#gainBefore(index, 'feedForward');
    const read = (part: 'gate' | 'up'): Value => {
      const name = blockName(index, `mlp.${part}_proj`);
      const shape = [hiddenSize, intermediateSize] as const;
      return this.#linear(x, name, { shape, block: index, rows: 'residual', columns: { [name]: part }, gain, bias });
    };
    const inside = gatedMlp ? this.#product(this.#activation(read('gate')), read('up')) : this.#activation(read('up'));
    const down = blockName(index, 'mlp.down_proj');
    return this.#linear(inside, down, {
      shape: [intermediateSize, hiddenSize],
      block: index,
      rows: 'neurons',
      columns: { [down]: this.#denseOutputGains ? 'feed-forward-out' : 'residual' },
      gain: null,
      bias,
    });
  }

  #activation(x: Value): Value {
    const output = { shape: x.shape };
    return this.#config.activation === 'silu'
      ? this.#graph.emitOne('QuickGelu', [x], output, { alpha: { float: 1 } }, contrib)
      : this.#graph.emitOne('FastGelu', [x], output, {}, contrib);
  }

  #product(a: Value, b: Value): Value {
    return this.#graph.emitOne('Mul', [a, b], { shape: a.shape });
  }

  // The gain that may be folded into the matrices of a sublayer that reads the normalised residual.
  #gainBefore(index: number, sublayer: 'attention' | 'feedForward'): string | null {
    const { before } = normNames(this.#config.norms, index, sublayer);
    return before === null ? null : `${before}.weight`;
  }

  #linear(x: Value, name: string, linear: Linear): Value {
    const { shape, block, rows, gain } = linear;
    const parts = Object.entries(linear.columns);
    const tensors = (suffix: string) => parts.map(([part, columns]) => ({ tensor: `${part}.${suffix}`, columns }));
    const matrix: SegmentWeight = {
      name: `${name}.weight`,
      kind: 'matrix',
      shape,
      block,
      rows,
      parts: tensors('weight'),
      gain,
      format: this.#products.format,
    };
    const product = this.#multiplied(this.#products, x, matrix);
    if (!linear.bias) return product;
    const offset = this.#vector(`${name}.bias`, shape[1], 'bias', block, tensors('bias'));
    return this.#graph.emitOne('Add', [product, offset], { shape: product.shape });
  }

  #multiplied(products: LinearLowering, x: Value, matrix: SegmentWeight): Value {
    this.weights.push(matrix);
    this.#onProduct?.(this.#graph, x, matrix);
    return products.product(x, matrix);
  }

  #vector(
    name: string,
    size: number,
    kind: 'bias' | 'gain',
    block: number | null,
    parts: SegmentWeight['parts'],
  ): Value {
    return this.#weight({ name, kind, shape: [size], block, rows: null, parts, gain: null });
  }

  #weight(weight: SegmentWeight): Value {
    this.weights.push(weight);
    return this.#graph.weight(weight.name, weight.shape);
  }
}
