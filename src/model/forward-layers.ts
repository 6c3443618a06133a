// Forward-only lowering of a decoder: fused operators of ONNX Runtime, weights [in, out] in an external data file (or as the graph
// places them), a key/value cache per block. Zone: edge and owner. DESIGN sections 5 and 9.
import type { Graph, Value } from '../graph/graph.js';
import { split } from '../graph/ops/shape.js';
import type { DecoderConfig } from './config.js';
import { blockName, type Layers, type Stream } from './decoder.js';
import { createLinear, type LinearFormat, type LinearLowering } from './linear-lowering.js';
import { embeddingWeight, type SegmentWeight, type Space } from './weights.js';

const contrib = 'com.microsoft';
// GroupQueryAttention rotates only heads whose width is a multiple of this (runtime 1.30).
const fusedRotaryMultiple = 16;

interface AttentionInputs {
  readonly lengths: Value;
  readonly total: Value;
  readonly cos: Value;
  readonly sin: Value;
  /** Set when the fused attention operator cannot rotate heads of this width itself. */
  readonly positions: Value | null;
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
  #attentionInputs: AttentionInputs | null = null;

  constructor(graph: Graph, config: DecoderConfig, format: LinearFormat = 'float32') {
    this.#graph = graph;
    this.#config = config;
    this.#products = createLinear(graph, format);
  }

  /** Declared at the first attention: cache lengths and rotary tables, sometimes position ids. */
  get #inputs(): AttentionInputs {
    const pairs = this.#config.headDim / 2;
    this.#attentionInputs ??= {
      lengths: this.#graph.input('seqlens_k', 'int32', ['batch']),
      total: this.#graph.input('total_sequence_length', 'int32', []),
      cos: this.#graph.input('rope_cos', 'float32', ['positions', pairs]),
      sin: this.#graph.input('rope_sin', 'float32', ['positions', pairs]),
      positions:
        this.#config.headDim % fusedRotaryMultiple === 0
          ? null
          : this.#graph.input('position_ids', 'int64', ['batch', 'tokens']),
    };
    return this.#attentionInputs;
  }

  /** Declares input_ids [batch, tokens]. */
  embed(): Value {
    const ids = this.#graph.input('input_ids', 'int32', ['batch', 'tokens']);
    const { hiddenSize } = this.#config;
    const table = this.#weight(embeddingWeight(this.#config));
    return this.#graph.emitOne('Gather', [table, ids], { shape: ['batch', 'tokens', hiddenSize] }, { axis: 0 });
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
    const epsilon = { float: rmsNormEps };
    if (stream.pending === null) {
      const attributes = { axis: -1, epsilon, stash_type: 1 };
      const normed = this.#graph.emitOne(
        'SimplifiedLayerNormalization',
        [stream.residual, gain],
        { shape },
        attributes,
      );
      return { normed, residual: stream.residual };
    }
    // Outputs: normalised, mean (unused), inverse deviation (unused), sum.
    const outputs = this.#graph.emit(
      'SkipSimplifiedLayerNormalization',
      [stream.pending, stream.residual, gain],
      [{ shape }, { shape: ['batch', 'tokens', 1] }, { shape: ['batch', 'tokens', 1] }, { shape }],
      { epsilon },
      contrib,
    );
    return { normed: outputs[0]!, residual: outputs[3]! };
  }

  attention(x: Value, index: number): Value {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, hiddenSize } = this.#config;
    const name = (part: string): string => blockName(index, `self_attn.${part}`);
    const qkv = this.#linear(x, name('qkv_proj'), {
      shape: [hiddenSize, (heads + 2 * kvHeads) * headDim],
      block: index,
      rows: 'residual',
      columns: { [name('q_proj')]: 'query', [name('k_proj')]: 'key', [name('v_proj')]: 'value' },
      gain: blockName(index, 'input_layernorm.weight'),
      bias: this.#config.qkvBias,
    });
    const cacheShape = ['batch', kvHeads, 'past', headDim];
    const pastKey = this.#graph.input(`past_key_${index}`, 'float32', cacheShape);
    const pastValue = this.#graph.input(`past_value_${index}`, 'float32', cacheShape);
    const present = ['batch', kvHeads, 'total', headDim];
    const window = this.#config.slidingWindow;
    const cache = [pastKey, pastValue, this.#inputs.lengths, this.#inputs.total];
    const [mixed, key, value] = this.#graph.emit(
      'GroupQueryAttention',
      this.#inputs.positions === null
        ? [qkv, null, null, ...cache, this.#inputs.cos, this.#inputs.sin]
        : [...this.#rotated(qkv, this.#inputs.positions), ...cache],
      [{ shape: ['batch', 'tokens', heads * headDim] }, { shape: present }, { shape: present }],
      {
        num_heads: heads,
        kv_num_heads: kvHeads,
        do_rotary: this.#inputs.positions === null ? 1 : 0,
        ...(window === null ? {} : { local_window_size: window }),
      },
      contrib,
    ) as [Value, Value, Value];
    this.#graph.output(`present_key_${index}`, key);
    this.#graph.output(`present_value_${index}`, value);
    return this.#linear(mixed, name('o_proj'), {
      shape: [heads * headDim, hiddenSize],
      block: index,
      rows: 'heads',
      columns: { [name('o_proj')]: 'residual' },
      gain: null,
      bias: this.#config.outputBias,
    });
  }

  // q, k and v with q and k rotated, for head widths the fused operator does not rotate.
  #rotated(qkv: Value, positions: Value): Value[] {
    const { numAttentionHeads, numKeyValueHeads, headDim } = this.#config;
    const counts = [numAttentionHeads, numKeyValueHeads, numKeyValueHeads];
    const pieces = split(
      this.#graph,
      qkv,
      counts.map((count) => count * headDim),
      2,
    );
    return pieces.map((piece, i) => {
      if (i === 2) return piece;
      const inputs = [piece, positions, this.#inputs.cos, this.#inputs.sin];
      return this.#graph.emitOne('RotaryEmbedding', inputs, { shape: piece.shape }, { num_heads: counts[i]! }, contrib);
    });
  }

  gatedMlp(x: Value, index: number): Value {
    const { hiddenSize, intermediateSize, mlpBias: bias } = this.#config;
    const gain = blockName(index, 'post_attention_layernorm.weight');
    const read = (part: 'gate' | 'up'): Value => {
      const name = blockName(index, `mlp.${part}_proj`);
      const shape = [hiddenSize, intermediateSize] as const;
      return this.#linear(x, name, { shape, block: index, rows: 'residual', columns: { [name]: part }, gain, bias });
    };
    const gate = read('gate');
    const up = read('up');
    const activated = this.#graph.emitOne('QuickGelu', [gate], { shape: gate.shape }, { alpha: { float: 1 } }, contrib);
    const product = this.#graph.emitOne('Mul', [activated, up], { shape: gate.shape });
    const down = blockName(index, 'mlp.down_proj');
    return this.#linear(product, down, {
      shape: [intermediateSize, hiddenSize],
      block: index,
      rows: 'neurons',
      columns: { [down]: 'residual' },
      gain: null,
      bias,
    });
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
    this.weights.push(matrix);
    const product = this.#products.product(x, matrix);
    if (!linear.bias) return product;
    const offset = this.#vector(`${name}.bias`, shape[1], 'bias', block, tensors('bias'));
    return this.#graph.emitOne('Add', [product, offset], { shape: product.shape });
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
