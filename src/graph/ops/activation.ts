// The activation of gated feed-forwards.
// Zone: edge.
import type { Graph, Value } from '../graph.js';
import { add, mul, sub } from './elementwise.js';

/** SiLU: x·σ(x). `QuickGelu` with alpha 1 is the same function in one pass. */
export function silu(graph: Graph, x: Value): Value {
  const y = graph.emitOne('QuickGelu', [x], { shape: x.shape }, { alpha: { float: 1 } }, 'com.microsoft');
  return graph.record(y, [x], (dy) => {
    // d/dx x·σ = σ + y·(1 − σ) = y + σ·(1 − y)
    const sigmoid = graph.emitOne('Sigmoid', [x], { shape: x.shape });
    const slope = add(graph, y, mul(graph, sigmoid, sub(graph, graph.scalar(1), y)));
    return [mul(graph, dy, slope)];
  });
}
