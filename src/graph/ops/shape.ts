// Operators that move elements without changing them: reshape, transpose, slice of an axis, concatenation, gather.
// Zone: edge.
import type { Dim, Graph, Value } from '../graph.js';

/** Same elements, new shape (fixed sizes). */
export function reshape(graph: Graph, x: Value, shape: readonly number[]): Value {
  const y = graph.emitOne('Reshape', [x, graph.int64s(shape)], { shape });
  return graph.record(y, [x], (dy) => [reshape(graph, dy, x.shape as readonly number[])]);
}

/** Axes reordered: output axis i is input axis `order[i]`. */
export function transpose(graph: Graph, x: Value, order: readonly number[]): Value {
  const shape = order.map((axis): Dim => x.shape[axis]!);
  const y = graph.emitOne('Transpose', [x], { shape }, { perm: order });
  const inverse = order.map((_, axis) => order.indexOf(axis));
  return graph.record(y, [x], (dy) => [transpose(graph, dy, inverse)]);
}

/** Joins values along `axis`. */
export function concat(graph: Graph, xs: readonly Value[], axis: number): Value {
  const sizes = xs.map((x) => x.shape[axis] as number);
  const shape = xs[0]!.shape.map((dim, i): Dim => (i === axis ? sizes.reduce((a, b) => a + b, 0) : dim));
  const y = graph.emitOne('Concat', xs, { shape, dtype: xs[0]!.dtype }, { axis });
  return graph.record(y, xs, (dy) => split(graph, dy, sizes, axis));
}

/** Cuts a value into pieces of the given sizes along `axis`. */
export function split(graph: Graph, x: Value, sizes: readonly number[], axis: number): Value[] {
  const pieces = graph.emit(
    'Split',
    [x, graph.int64s(sizes)],
    sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.map((dim, i): Dim => (i === axis ? size : dim)) })),
    { axis },
  );
  // Every piece must have received a gradient before the pieces can be joined again.
  const arrived: (Value | undefined)[] = pieces.map(() => undefined);
  pieces.forEach((piece, i) => {
    graph.record(piece, [x], (dy) => {
      arrived[i] = dy;
      return arrived.every((g) => g !== undefined) ? [concat(graph, arrived as Value[], axis)] : [null];
    });
  });
  return pieces;
}

/** One row of `table` [rows, width] per id; ids have no gradient. Output shape is the ids' shape plus [width]. */
export function gatherRows(graph: Graph, table: Value, ids: Value): Value {
  const width = table.shape[1]!;
  const y = graph.emitOne('Gather', [table, ids], { shape: [...ids.shape, width] }, { axis: 0 });
  return graph.record(y, [table], (dy) => {
    const count = (ids.shape as number[]).reduce((a, b) => a * b, 1);
    const zeros = graph.emitOne('Expand', [graph.scalar(0), graph.int64s(table.shape as number[])], {
      shape: table.shape,
    });
    // ScatterElements adds one element after another in a fixed order, so repeated ids give the same bits every time;
    // ScatterND with reduction runs in parallel and would race on them.
    const column = graph.emitOne('Reshape', [ids, graph.int64s([count, 1])], { dtype: ids.dtype, shape: [count, 1] });
    const indices = graph.emitOne('Expand', [column, graph.int64s([count, width as number])], {
      dtype: ids.dtype,
      shape: [count, width],
    });
    const rows = graph.emitOne('Reshape', [dy, graph.int64s([count, width as number])], { shape: [count, width] });
    const sum = graph.emitOne(
      'ScatterElements',
      [zeros, indices, rows],
      { shape: table.shape },
      { axis: 0, reduction: 'add' },
    );
    return [sum];
  });
}

/** Elements of each row of `x` [rows, n] at `indices` [rows, k]; no gradient (losses derive their own). */
export function gatherElements(graph: Graph, x: Value, indices: Value): Value {
  return graph.emitOne('GatherElements', [x, indices], { dtype: x.dtype, shape: indices.shape }, { axis: 1 });
}

/** `x` [rows, n] with `updates` [rows, k] added at `indices` [rows, k], in a fixed order; no gradient. */
export function scatterAdd(graph: Graph, x: Value, indices: Value, updates: Value): Value {
  return graph.emitOne('ScatterElements', [x, indices, updates], { shape: x.shape }, { axis: 1, reduction: 'add' });
}

/** `x` [rows, n] with the elements at `indices` [rows, k] (distinct within a row) replaced by `updates`; no gradient. */
export function setElements(graph: Graph, x: Value, indices: Value, updates: Value): Value {
  return graph.emitOne('ScatterElements', [x, indices, updates], { shape: x.shape }, { axis: 1 });
}
