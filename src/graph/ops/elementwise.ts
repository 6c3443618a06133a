// Elementwise arithmetic with NumPy broadcasting: add, subtract, multiply, divide, square root, exponential, logarithm.
// Zone: edge. One forward and one gradient per operator.
import { MalformedError } from '../../trusted/wire/errors.js';
import type { Dim, Graph, Value } from '../graph.js';
import { reduceSum } from './reduce.js';
import { reshape } from './shape.js';

/** Shape of a broadcast operation. Throws MalformedError when the shapes do not fit. */
export function broadcastShape(a: readonly Dim[], b: readonly Dim[]): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i): Dim => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw new MalformedError('graph-shape', `shapes [${a}] and [${b}] do not broadcast`);
  });
}

/** Sums a gradient over the axes along which `target` was broadcast, back to the shape of `target`. */
function unbroadcast(graph: Graph, gradient: Value, target: Value): Value {
  const extra = gradient.shape.length - target.shape.length;
  const axes = gradient.shape.flatMap((dim, i) =>
    i < extra || (target.shape[i - extra] === 1 && dim !== 1) ? [i] : [],
  );
  if (axes.length === 0) return gradient;
  return reshape(graph, reduceSum(graph, gradient, axes, true), target.shape as readonly number[]);
}

function binary(graph: Graph, opType: string, a: Value, b: Value): Value {
  return graph.emitOne(opType, [a, b], { shape: broadcastShape(a.shape, b.shape) });
}

/** a + b. */
export function add(graph: Graph, a: Value, b: Value): Value {
  return graph.record(binary(graph, 'Add', a, b), [a, b], (dy) => [
    a.differentiable ? unbroadcast(graph, dy, a) : null,
    b.differentiable ? unbroadcast(graph, dy, b) : null,
  ]);
}

/** a − b. */
export function sub(graph: Graph, a: Value, b: Value): Value {
  return graph.record(binary(graph, 'Sub', a, b), [a, b], (dy) => [
    a.differentiable ? unbroadcast(graph, dy, a) : null,
    b.differentiable ? unbroadcast(graph, neg(graph, dy), b) : null,
  ]);
}

/** a · b. */
export function mul(graph: Graph, a: Value, b: Value): Value {
  return graph.record(binary(graph, 'Mul', a, b), [a, b], (dy) => [
    a.differentiable ? unbroadcast(graph, mul(graph, dy, b), a) : null,
    b.differentiable ? unbroadcast(graph, mul(graph, dy, a), b) : null,
  ]);
}

/** a / b. */
export function div(graph: Graph, a: Value, b: Value): Value {
  const y = binary(graph, 'Div', a, b);
  return graph.record(y, [a, b], (dy) => {
    const da = div(graph, dy, b);
    return [
      a.differentiable ? unbroadcast(graph, da, a) : null,
      b.differentiable ? unbroadcast(graph, neg(graph, mul(graph, da, y)), b) : null,
    ];
  });
}

/** −x. */
export function neg(graph: Graph, x: Value): Value {
  return graph.record(graph.emitOne('Neg', [x], { shape: x.shape }), [x], (dy) => [neg(graph, dy)]);
}

/** √x, x > 0. */
export function sqrt(graph: Graph, x: Value): Value {
  const y = graph.emitOne('Sqrt', [x], { shape: x.shape });
  return graph.record(y, [x], (dy) => [div(graph, mul(graph, dy, graph.scalar(0.5)), y)]);
}

/** eˣ. */
export function exp(graph: Graph, x: Value): Value {
  const y = graph.emitOne('Exp', [x], { shape: x.shape });
  return graph.record(y, [x], (dy) => [mul(graph, dy, y)]);
}

/** ln x, x > 0. */
export function log(graph: Graph, x: Value): Value {
  return graph.record(graph.emitOne('Log', [x], { shape: x.shape }), [x], (dy) => [div(graph, dy, x)]);
}

/** max(a, b), no gradient. */
export function max(graph: Graph, a: Value, b: Value): Value {
  return graph.emitOne('Max', [a, b], { shape: broadcastShape(a.shape, b.shape) });
}

/** min(a, b), no gradient. */
export function min(graph: Graph, a: Value, b: Value): Value {
  return graph.emitOne('Min', [a, b], { shape: broadcastShape(a.shape, b.shape) });
}
