// A tensor graph under construction: values, nodes, and the tape that the backward pass is derived from.
// Zone: edge and owner. Operators live in ops/, one file per group; DESIGN section 9.
import { MalformedError } from '../trusted/wire/errors.js';

export type DType = 'float32' | 'int32' | 'int64' | 'uint8' | 'bool';
/** A fixed size, or the name of a size that is known only when the graph runs (forward-only graphs). */
export type Dim = number | string;
export type Attribute = number | string | readonly number[] | { readonly float: number };

/** A symbolic tensor: what an operator produced or a caller feeds. */
export interface Value {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Dim[];
  /** True when a gradient may flow into it: a parameter, or computed from one. */
  readonly differentiable: boolean;
}

export interface Node {
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export type ConstantData = Float32Array | Int32Array | BigInt64Array | Uint8Array;

/** A small tensor stored inside the graph. */
export interface Constant {
  readonly value: Value;
  readonly data: ConstantData;
}

/** Given the gradient of an operator's output, the gradient of each input (null: none flows there). */
export type Backward = (gradient: Value) => readonly (Value | null)[];

interface TapeEntry {
  readonly output: Value;
  readonly inputs: readonly Value[];
  readonly backward: Backward;
}

export interface OutputSpec {
  readonly dtype?: DType;
  readonly shape: readonly Dim[];
}

const dtypes: Readonly<Record<string, DType>> = {
  Float32Array: 'float32',
  Int32Array: 'int32',
  BigInt64Array: 'int64',
  Uint8Array: 'uint8',
};

export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly outputs: { readonly name: string; readonly value: Value }[] = [];
  readonly constants: Constant[] = [];
  /** Weights that stay in a data file beside the graph (ONNX external data). */
  readonly weights: Value[] = [];
  readonly tape: TapeEntry[] = [];
  #count = 0;
  readonly #scalars = new Map<string, Value>();

  /** A tensor fed at every run. `differentiable` marks a parameter. */
  input(name: string, dtype: DType, shape: readonly Dim[], differentiable = false): Value {
    const value: Value = { name, dtype, shape, differentiable };
    this.inputs.push(value);
    return value;
  }

  /** A weight whose bytes stay in an external data file. */
  weight(name: string, shape: readonly Dim[], dtype: DType = 'float32'): Value {
    const value: Value = { name, dtype, shape, differentiable: false };
    this.weights.push(value);
    return value;
  }

  /** A small tensor stored inside the graph. Throws MalformedError when data and shape disagree. */
  constant(data: ConstantData, shape: readonly number[]): Value {
    const size = shape.reduce((a, b) => a * b, 1);
    if (size !== data.length)
      throw new MalformedError(
        'graph-constant',
        `constant of shape [${shape}] needs ${size} values, got ${data.length}`,
      );
    const dtype = dtypes[data.constructor.name]!;
    const value: Value = { name: this.#fresh('const'), dtype, shape, differentiable: false };
    this.constants.push({ value, data });
    return value;
  }

  /** A float32 scalar, shared between uses of the same number. */
  scalar(x: number): Value {
    return this.#shared(`f${x}`, () => this.constant(Float32Array.of(x), []));
  }

  /** A uint8 scalar (a zero point), shared between uses of the same number. */
  uint8(x: number): Value {
    return this.#shared(`u${x}`, () => this.constant(Uint8Array.of(x), []));
  }

  /** A 1-D int64 tensor (shapes, axes), shared between uses of the same numbers. */
  int64s(values: readonly number[]): Value {
    return this.#shared(`i${values}`, () => this.constant(BigInt64Array.from(values.map(BigInt)), [values.length]));
  }

  /** Adds one ONNX node and returns its outputs; `null` stands for an omitted optional input. */
  emit(
    opType: string,
    inputs: readonly (Value | null)[],
    outputs: readonly OutputSpec[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = '',
  ): Value[] {
    const differentiable = inputs.some((input) => input?.differentiable === true);
    const values = outputs.map((spec): Value => {
      const dtype = spec.dtype ?? 'float32';
      return {
        name: this.#fresh(opType),
        dtype,
        shape: spec.shape,
        differentiable: differentiable && dtype === 'float32',
      };
    });
    const names = inputs.map((input) => input?.name ?? '');
    while (names.at(-1) === '') names.pop();
    this.nodes.push({ opType, domain, inputs: names, outputs: values.map((v) => v.name), attributes });
    return values;
  }

  /** `emit` for the usual operator with one output. */
  emitOne(
    opType: string,
    inputs: readonly (Value | null)[],
    output: OutputSpec,
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = '',
  ): Value {
    return this.emit(opType, inputs, [output], attributes, domain)[0]!;
  }

  /** Records how a gradient flows back through an operator; nothing is kept where none can flow. */
  record(output: Value, inputs: readonly Value[], backward: Backward): Value {
    if (inputs.some((input) => input.differentiable)) this.tape.push({ output, inputs, backward });
    return output;
  }

  /** Names a value as a result of the graph. */
  output(name: string, value: Value): void {
    this.outputs.push({ name, value });
  }

  #fresh(prefix: string): string {
    this.#count += 1;
    return `${prefix}_${this.#count}`;
  }

  #shared(key: string, make: () => Value): Value {
    const found = this.#scalars.get(key);
    if (found) return found;
    const made = make();
    this.#scalars.set(key, made);
    return made;
  }
}

/** The sizes of a value whose shape is fully known. Throws MalformedError on a named size. */
export function fixedShape(value: Value): readonly number[] {
  return value.shape.map((dim) => {
    if (typeof dim === 'number') return dim;
    throw new MalformedError(
      'graph-shape',
      `${value.name} has the open size "${dim}"; a training graph needs fixed sizes`,
    );
  });
}

/** Number of elements of a value whose shape is fully known. */
export function sizeOf(value: Value): number {
  return fixedShape(value).reduce((a, b) => a * b, 1);
}
