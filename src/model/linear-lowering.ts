// How a linear layer of a forward graph is computed: float32, or int8 weights with int8 activations. Zone: edge, owner and enclave graphs.
// DESIGN section 4. Unsigned activations times signed weights is the combination that the runtime has fast kernels for.
import type { Graph, Value } from '../graph/graph.js';
import type { SegmentWeight } from './weights.js';

/** `int8`: weights with a scale per output column, activations quantised row by row as the graph runs. */
export type LinearFormat = 'float32' | 'int8';

export interface LinearLowering {
  readonly format: LinearFormat;
  /** x [..., in] · W [in, out]. */
  product(x: Value, weight: SegmentWeight): Value;
  /** Tells that x is the output of an RMS norm whose gain is one, in a rotated basis. */
  markNormalised(x: Value): void;
}

const contrib = 'com.microsoft';
/** Code of the activation 0. */
const zero = 128;

/**
 * A row of a rotated, RMS-normalised stream is uniform on the sphere of radius √width, whatever the model and the text: its elements are as
 * good as standard normal, and a grid over ±4 deviations (the best one for 8 bits) needs no look at the data.
 */
export const NORMALISED_RANGE = 4;
export const NORMALISED_STEP: number = NORMALISED_RANGE / 127.5;

/** Name of the scales [out] that belong to a weight stored as int8 [in, out]. */
export function scalesName(weight: string): string {
  return `${weight}.scale`;
}

/** Activations as codes, and the factor of each row that a product still has to be multiplied by (null: none). */
interface Codes {
  readonly codes: Value;
  readonly step: Value;
  readonly rowFactor: Value | null;
}

export class Float32Linear implements LinearLowering {
  readonly format = 'float32';
  readonly graph: Graph;

  constructor(graph: Graph) {
    this.graph = graph;
  }

  product(x: Value, weight: SegmentWeight): Value {
    const [inputs, outputs] = weight.shape as [number, number];
    const w = this.graph.weight(weight.name, [inputs, outputs]);
    return this.graph.emitOne('MatMul', [x, w], { shape: [...x.shape.slice(0, -1), outputs] });
  }

  markNormalised(): void {}
}

export class Int8Linear implements LinearLowering {
  readonly format = 'int8';
  readonly graph: Graph;
  readonly #normalised = new Set<Value>();
  // q, k and v read one input, so do gate and up: it is quantised once.
  readonly #codes = new Map<Value, Codes>();

  constructor(graph: Graph) {
    this.graph = graph;
  }

  markNormalised(x: Value): void {
    this.#normalised.add(x);
  }

  product(x: Value, weight: SegmentWeight): Value {
    const { codes, step, rowFactor } = this.#quantised(x);
    const [inputs, outputs] = weight.shape as [number, number];
    const w = this.graph.weight(weight.name, [inputs, outputs], 'int8');
    const scales = this.graph.weight(scalesName(weight.name), [outputs]);
    const y = int8Product(this.graph, codes, step, w, scales);
    return rowFactor === null ? y : this.graph.emitOne('Mul', [y, rowFactor], { shape: y.shape });
  }

  #quantised(x: Value): Codes {
    let found = this.#codes.get(x);
    if (found === undefined) {
      found = this.#normalised.has(x) ? quantiseNormalised(this.graph, x) : quantiseRows(this.graph, x);
      this.#codes.set(x, found);
    }
    return found;
  }
}

/** codes [..., in] (uint8, zero point 128) · w [in, out] (int8) · step · scales [out]. */
export function int8Product(graph: Graph, codes: Value, step: Value, w: Value, scales: Value): Value {
  const shape = [...codes.shape.slice(0, -1), w.shape[1]!];
  return graph.emitOne('MatMulIntegerToFloat', [codes, w, step, scales, graph.uint8(zero)], { shape }, {}, contrib);
}

/** Elements beyond ±NORMALISED_RANGE saturate. */
export function quantiseNormalised(graph: Graph, x: Value): Codes {
  const step = graph.scalar(NORMALISED_STEP);
  return { codes: quantise(graph, x, step), step, rowFactor: null };
}

/** Each row over its own range ±max|x|. */
function quantiseRows(graph: Graph, x: Value): Codes {
  const axis = graph.int64s([-1]);
  const shape = [...x.shape.slice(0, -1), 1];
  const largest = graph.emitOne('ReduceMax', [x, axis], { shape }, { keepdims: 1 });
  const smallest = graph.emitOne('ReduceMin', [x, axis], { shape }, { keepdims: 1 });
  // Two reductions write less than one over |x|; the last term keeps rows of zeros finite.
  const opposite = graph.emitOne('Neg', [smallest], { shape });
  const rowFactor = graph.emitOne('Max', [largest, opposite, graph.scalar(1e-30)], { shape });
  const inverse = graph.emitOne('Reciprocal', [rowFactor], { shape });
  const unit = graph.emitOne('Mul', [x, inverse], { shape: x.shape });
  const step = graph.scalar(1 / 127);
  return { codes: quantise(graph, unit, step), step, rowFactor };
}

function quantise(graph: Graph, x: Value, step: Value): Value {
  return graph.emitOne('QuantizeLinear', [x, step, graph.uint8(zero)], { shape: x.shape, dtype: 'uint8' });
}

export function createLinear(graph: Graph, format: LinearFormat): LinearLowering {
  return format === 'int8' ? new Int8Linear(graph) : new Float32Linear(graph);
}
