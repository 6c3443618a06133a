// Sums and maxima over axes.
// Zone: edge.
import type { Dim, Graph, Value } from '../graph.js';

function reducedShape(shape: readonly Dim[], axes: readonly number[], keep: boolean): Dim[] {
  return shape.flatMap((dim, i) => (axes.includes(i) ? (keep ? [1] : []) : [dim]));
}

/** Σ over `axes` (non-negative). With `keep`, the axes stay with size 1. */
export function reduceSum(graph: Graph, x: Value, axes: readonly number[], keep = true): Value {
  const shape = reducedShape(x.shape, axes, keep);
  const y = graph.emitOne('ReduceSum', [x, graph.int64s(axes)], { shape }, { keepdims: keep ? 1 : 0 });
  return graph.record(y, [x], (dy) => {
    const kept = reducedShape(x.shape, axes, true);
    const column = keep ? dy : graph.emitOne('Reshape', [dy, graph.int64s(kept as number[])], { shape: kept });
    return [graph.emitOne('Expand', [column, graph.int64s(x.shape as number[])], { shape: x.shape })];
  });
}

/** Σ x² over `axes`, no gradient. */
export function reduceSumSquare(graph: Graph, x: Value, axes: readonly number[], keep = true): Value {
  const shape = reducedShape(x.shape, axes, keep);
  return graph.emitOne('ReduceSumSquare', [x, graph.int64s(axes)], { shape }, { keepdims: keep ? 1 : 0 });
}

/** Largest element over `axes`, no gradient. */
export function reduceMax(graph: Graph, x: Value, axes: readonly number[], keep = true): Value {
  const shape = reducedShape(x.shape, axes, keep);
  return graph.emitOne('ReduceMax', [x, graph.int64s(axes)], { shape }, { keepdims: keep ? 1 : 0 });
}
