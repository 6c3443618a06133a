// Matrix products. `FusedMatMul` takes transposed operands and a scale, so neither direction copies a transpose.
// Zone: edge.
import { MalformedError } from '../../trusted/wire/errors.js';
import type { Dim, Graph, Value } from '../graph.js';
import { reduceSum } from './reduce.js';
import { reshape } from './shape.js';

export interface MatMulOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** The product is multiplied by this. */
  readonly alpha?: number;
}

/** alpha · op(A) op(B) over the last two axes; leading axes are equal, or absent in B. */
export function matmul(graph: Graph, a: Value, b: Value, options: MatMulOptions = {}): Value {
  const { transA = false, transB = false, alpha = 1 } = options;
  const [m, k] = lastTwo(a, transA);
  const [k2, n] = lastTwo(b, transB);
  if (k !== k2)
    throw new MalformedError(
      'graph-shape',
      `matrix product of [${a.shape}] and [${b.shape}]: inner sizes ${k} and ${k2} differ`,
    );
  const y = emitProduct(graph, a, b, [...a.shape.slice(0, -2), m, n], transA, transB, alpha);
  return graph.record(y, [a, b], (dy) => [
    a.differentiable ? gradientA(graph, dy, b, { transA, transB, alpha }) : null,
    b.differentiable ? gradientB(graph, dy, a, b, { transA, transB, alpha }) : null,
  ]);
}

/** x [..., in] times W [out, in] transposed: a linear layer in a checkpoint's own layout. */
export function linear(graph: Graph, x: Value, weight: Value): Value {
  return matmul(graph, x, weight, { transB: true });
}

function lastTwo(value: Value, transposed: boolean): [Dim, Dim] {
  const [rows, columns] = value.shape.slice(-2) as [Dim, Dim];
  return transposed ? [columns, rows] : [rows, columns];
}

function emitProduct(
  graph: Graph,
  a: Value,
  b: Value,
  shape: Dim[],
  transA: boolean,
  transB: boolean,
  alpha: number,
): Value {
  if (!transA && !transB && alpha === 1) return graph.emitOne('MatMul', [a, b], { shape });
  const attributes = { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } };
  return graph.emitOne('FusedMatMul', [a, b], { shape }, attributes, 'com.microsoft');
}

// Y = α op(A) op(B):  dA = α dY op(B)ᵀ (or its transpose),  dB = α op(A)ᵀ dY (or its transpose).
function gradientA(graph: Graph, dy: Value, b: Value, { transA, transB, alpha }: Required<MatMulOptions>): Value {
  return transA
    ? matmul(graph, b, dy, { transA: transB, transB: true, alpha })
    : matmul(graph, dy, b, { transB: !transB, alpha });
}

function gradientB(
  graph: Graph,
  dy: Value,
  a: Value,
  b: Value,
  { transA, transB, alpha }: Required<MatMulOptions>,
): Value {
  if (b.shape.length === 2 && a.shape.length > 2 && !transA) {
    // One weight for all leading axes: fold them into rows and let one product do the sum.
    const flatA = reshape(graph, a, foldRows(a));
    const flatY = reshape(graph, dy, foldRows(dy));
    return gradientB(graph, flatY, flatA, b, { transA, transB, alpha });
  }
  const g = transB
    ? matmul(graph, dy, a, { transA: true, transB: transA, alpha })
    : matmul(graph, a, dy, { transA: !transA, alpha });
  const extra = g.shape.length - b.shape.length;
  return extra > 0
    ? reduceSum(
        graph,
        g,
        Array.from({ length: extra }, (_, i) => i),
        false,
      )
    : g;
}

function foldRows(value: Value): number[] {
  const shape = value.shape as number[];
  return [shape.slice(0, -1).reduce((x, y) => x * y, 1), shape.at(-1)!];
}
