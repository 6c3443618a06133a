// RMSNorm: y = γ · x / √(mean(x²) + ε)  (Zhang & Sennrich 2019, arXiv 1910.07467).
// Zone: edge. Forward is one fused operator; the gradient is written out.
import type { Graph, Value } from '../graph.js';
import { mul, sub } from './elementwise.js';
import { reduceSum } from './reduce.js';

/** x [rows, width], gain [width] → [rows, width]. */
export function rmsNorm(graph: Graph, x: Value, gain: Value, epsilon: number): Value {
  const width = gain.shape[0] as number;
  const [y, inverse] = graph.emit(
    'SimplifiedLayerNormalization',
    [x, gain],
    [{ shape: x.shape }, { shape: [...x.shape.slice(0, -1), 1] }],
    { axis: -1, epsilon: { float: epsilon }, stash_type: 1 },
  ) as [Value, Value];
  // With s = 1/√(mean(x²) + ε) per row and a = γ·dy:  dx = s·a − x·s³·Σ(x·a)/width,  dγ = Σ_rows dy·x·s.
  return graph.record(y, [x, gain], (dy) => {
    const normalised = mul(graph, x, inverse);
    const scaled = mul(graph, dy, normalised);
    // Σ_rows and Σ_columns of dy·x̂ as products with a vector: faster than reductions over a broadcast.
    const dGain = gain.differentiable ? reduceSum(graph, scaled, [0], false) : null;
    if (!x.differentiable) return [null, dGain];
    const column = graph.emitOne('Reshape', [gain, graph.int64s([width, 1])], { shape: [width, 1] });
    const dot = graph.emitOne('MatMul', [scaled, column], { shape: [...x.shape.slice(0, -1), 1] });
    const mean = mul(graph, dot, graph.scalar(1 / width));
    const direct = mul(graph, dy, gain);
    const dx = mul(graph, sub(graph, direct, mul(graph, normalised, mean)), inverse);
    return [dx, dGain];
  });
}
