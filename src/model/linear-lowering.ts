// How a linear layer of a forward graph is computed: float32, int8 weights with int8 activations, or weights in quantised blocks. Zone: edge, owner and enclave graphs.
// DESIGN section 4. In int8 both sides are unsigned. Unsigned times signed is as fast with VNNI, but elsewhere its kernels add pairs of products in
// 16 bits, saturating; unsigned times unsigned is exact on every CPU (docs/results/int8.md).
import type { Dim, Graph, Value } from '../graph/graph.js';
import { hadamard, neuronMix, scalesName, weightZero } from './quantise.js';
import { blockShapes, blockSize, zerosName } from './quantise-blocks.js';
import type { SegmentWeight } from './weights.js';

/**
 * `int8`: weights with a scale per output column, activations quantised row by row as the graph runs; fastest over many tokens.
 * `block8`, `block4`: weights with a scale per 32 inputs (MatMulNBits); smallest, and fastest over one token.
 */
export type LinearFormat = 'float32' | 'int8' | 'block8' | 'block4';

export interface LinearLowering {
  readonly format: LinearFormat;
  /** x [..., in] · W [in, out]. */
  product(x: Value, weight: SegmentWeight): Value;
}

export function createLinear(graph: Graph, format: LinearFormat): LinearLowering {
  if (format === 'float32') return new Float32Linear(graph);
  return format === 'int8' ? new Int8Linear(graph) : new BlockLinear(graph, format);
}

class Float32Linear implements LinearLowering {
  readonly format = 'float32';
  readonly #graph: Graph;

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  product(x: Value, weight: SegmentWeight): Value {
    const w = this.#graph.weight(weight.name, weight.shape);
    return this.#graph.emitOne('MatMul', [x, w], { shape: [...x.shape.slice(0, -1), weight.shape[1]!] });
  }
}

class Int8Linear implements LinearLowering {
  readonly format = 'int8';
  readonly #graph: Graph;
  // q, k and v read one input, so do gate and up: it is quantised once.
  readonly #quantised = new Map<Value, QuantisedRows>();

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  product(x: Value, weight: SegmentWeight): Value {
    let rows = this.#quantised.get(x);
    if (rows === undefined) {
      rows = quantiseRows(this.#graph, mixed(this.#graph, x, neuronMix(weight)));
      this.#quantised.set(x, rows);
    }
    return int8Product(this.#graph, rows, weight.name, weight.shape[1]!);
  }
}

class BlockLinear implements LinearLowering {
  readonly format: 'block8' | 'block4';
  readonly #graph: Graph;

  constructor(graph: Graph, format: 'block8' | 'block4') {
    this.#graph = graph;
    this.format = format;
  }

  product(x: Value, weight: SegmentWeight): Value {
    const [inputs, outputs] = weight.shape as [number, number];
    const bits = this.format === 'block4' ? 4 : 8;
    const shapes = blockShapes(inputs, outputs, bits);
    const codes = this.#graph.weight(weight.name, shapes.codes, 'uint8');
    const scales = this.#graph.weight(scalesName(weight.name), shapes.scales);
    const zeros = shapes.zeros === null ? null : this.#graph.weight(zerosName(weight.name), shapes.zeros, 'uint8');
    // accuracy_level 4: activations in int8 blocks too. Without it the 8-bit product of one row is 30 times slower.
    const attributes = { K: inputs, N: outputs, bits, block_size: blockSize, accuracy_level: 4 };
    const shape = [...x.shape.slice(0, -1), outputs];
    return this.#graph.emitOne('MatMulNBits', [x, codes, scales, zeros], { shape }, attributes, contrib);
  }
}

/** Activations as codes around 128 and the factor of each row. */
export interface QuantisedRows {
  /** [..., in] uint8: x ≈ (codes − 128) · factors / 127. */
  readonly codes: Value;
  /** [..., 1] float32, the largest |x| of each row. */
  readonly factors: Value;
}

const contrib = 'com.microsoft';
const activationZero = 128;
const step = 1 / 127;

export function quantiseRows(graph: Graph, x: Value): QuantisedRows {
  const axis = graph.int64s([-1]);
  const shape = [...x.shape.slice(0, -1), 1];
  // Two reductions are faster than one over |x|, which would be written out; the last term keeps rows of zeros finite.
  const largest = graph.emitOne('ReduceMax', [x, axis], { shape }, { keepdims: 1 });
  const smallest = graph.emitOne('ReduceMin', [x, axis], { shape }, { keepdims: 1 });
  const opposite = graph.emitOne('Neg', [smallest], { shape });
  const factors = graph.emitOne('Max', [largest, opposite, graph.scalar(1e-30)], { shape });
  const inverse = graph.emitOne('Reciprocal', [factors], { shape });
  const unit = graph.emitOne('Mul', [x, inverse], { shape: x.shape });
  const codes = graph.emitOne('QuantizeLinear', [unit, graph.scalar(step), graph.uint8(activationZero)], {
    shape: x.shape,
    dtype: 'uint8',
  });
  return { codes, factors };
}

/** Quantised rows [..., in] times the int8 weight `name` [in, columns]. */
export function int8Product(graph: Graph, { codes, factors }: QuantisedRows, name: string, columns: Dim): Value {
  const w = graph.weight(name, [codes.shape.at(-1)!, columns], 'uint8');
  const scales = graph.weight(scalesName(name), [columns]);
  const shape = [...codes.shape.slice(0, -1), columns];
  const inputs = [codes, w, graph.scalar(step), scales, graph.uint8(activationZero), graph.uint8(weightZero)];
  const y = graph.emitOne('MatMulIntegerToFloat', inputs, { shape }, {}, contrib);
  return graph.emitOne('Mul', [y, factors], { shape });
}

// x [..., m] with every `size` neighbours mixed by a Hadamard matrix.
function mixed(graph: Graph, x: Value, size: number): Value {
  if (size === 1) return x;
  const width = x.shape.at(-1) as number;
  const kept = x.shape.slice(0, -1);
  // Reshape: 0 keeps a size.
  const zeros = kept.map(() => 0);
  const shape = [...kept, width / size, size];
  const parts = graph.emitOne('Reshape', [x, graph.int64s([...zeros, width / size, size])], { shape });
  const turned = graph.emitOne('MatMul', [parts, graph.constant(hadamard(size), [size, size])], { shape });
  return graph.emitOne('Reshape', [turned, graph.int64s([...zeros, width])], { shape: x.shape });
}
