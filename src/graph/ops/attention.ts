// Attention in two lowerings: one fused operator with a key/value cache for forward-only graphs, and differentiable
// operators for training. Zone: edge and owner.
import type { Graph, Value } from '../graph.js';
import { mul, sub } from './elementwise.js';
import { matmul } from './matmul.js';
import { reduceSum } from './reduce.js';
import { type RotaryTables, rotary } from './rotary.js';
import { reshape, transpose } from './shape.js';

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/**
 * Differentiable causal attention with grouped key/value heads.
 * q [batch·tokens, heads·headDim], k and v [batch·tokens, kvHeads·headDim], mask [batch, 1, 1, tokens, tokens] is added
 * to the scores. Returns [batch·tokens, heads·headDim].
 */
export function attention(
  graph: Graph,
  { q, k, v }: { q: Value; k: Value; v: Value },
  { heads, kvHeads, headDim }: AttentionShape,
  { batch, tokens }: { batch: number; tokens: number },
  { mask, positions, tables }: { mask: Value; positions: Value; tables: RotaryTables },
): Value {
  const group = heads / kvHeads;
  const split = (x: Value, count: number): Value =>
    transpose(graph, reshape(graph, x, [batch, tokens, count, headDim]), [0, 2, 1, 3]);
  const rotatedQ = rotary(graph, split(q, heads), positions, tables);
  const rotatedK = rotary(graph, split(k, kvHeads), positions, tables);
  // The query heads of a group share one key head: stack them as rows of one product.
  const folded = reshape(graph, rotatedQ, [batch, kvHeads, group * tokens, headDim]);
  const mixed = scaledDotProduct(graph, folded, rotatedK, split(v, kvHeads), mask, 1 / Math.sqrt(headDim));
  const perHead = reshape(graph, mixed, [batch, heads, tokens, headDim]);
  return reshape(graph, transpose(graph, perHead, [0, 2, 1, 3]), [batch * tokens, heads * headDim]);
}

/**
 * softmax(scale · q kᵀ + mask) v for q [batch, kvHeads, group·tokens, e], k and v [batch, kvHeads, tokens, e]. The backward pass
 * takes Σ_j P·dP per row as Σ_e dO·O (FlashAttention, arXiv 2205.14135, appendix B): two passes over the scores less.
 */
function scaledDotProduct(graph: Graph, q: Value, k: Value, v: Value, mask: Value, scale: number): Value {
  const [batch, kvHeads, rows] = q.shape as [number, number, number];
  const tokens = k.shape[2] as number;
  const view = (x: Value, shape: number[]): Value => graph.emitOne('Reshape', [x, graph.int64s(shape)], { shape });
  const scores = matmul(graph, q, k, { transB: true, alpha: scale });
  const grouped = view(scores, [batch, kvHeads, rows / tokens, tokens, tokens]);
  const masked = graph.emitOne('Add', [grouped, mask], { shape: grouped.shape });
  const soft = graph.emitOne('Softmax', [masked], { shape: masked.shape }, { axis: -1 });
  const weights = view(soft, [batch, kvHeads, rows, tokens]);
  const output = graph.emitOne('MatMul', [weights, v], { shape: q.shape });
  return graph.record(output, [q, k, v], (dy) => {
    const dot = reduceSum(graph, mul(graph, dy, output), [3], true);
    const dScores = mul(graph, weights, sub(graph, matmul(graph, dy, v, { transB: true }), dot));
    return [
      matmul(graph, dScores, k, { alpha: scale }),
      matmul(graph, dScores, q, { transA: true, alpha: scale }),
      matmul(graph, weights, dy, { transA: true }),
    ];
  });
}

/**
 * Additive mask [batch, 1, 1, tokens, tokens]: 0 where a token may look (earlier, same document, inside the window), else −1e9.
 * segments int32 [batch, tokens] numbers the documents of a packed row; padding is a document of its own.
 */
export function causalMask(graph: Graph, segments: Value, batch: number, tokens: number, window: number | null): Value {
  const index = graph.constant(
    Int32Array.from({ length: tokens }, (_, i) => i),
    [tokens],
  );
  const view = (value: Value, shape: number[]): Value =>
    graph.emitOne('Reshape', [value, graph.int64s(shape)], { dtype: value.dtype, shape });
  const bool = (opType: string, a: Value, b: Value, shape: number[]): Value =>
    graph.emitOne(opType, [a, b], { dtype: 'bool', shape });
  const [row, column] = [view(index, [tokens, 1]), view(index, [1, tokens])];
  let allowed = bool('GreaterOrEqual', row, column, [tokens, tokens]);
  if (window !== null && window < tokens) {
    const distance = graph.emitOne('Sub', [row, column], { dtype: 'int32', shape: [tokens, tokens] });
    const limit = graph.constant(Int32Array.of(window), []);
    allowed = bool('And', allowed, bool('Less', distance, limit, [tokens, tokens]), [tokens, tokens]);
  }
  const shape = [batch, 1, 1, tokens, tokens];
  const same = bool('Equal', view(segments, [batch, 1, 1, tokens, 1]), view(segments, [batch, 1, 1, 1, tokens]), shape);
  return graph.emitOne('Where', [bool('And', allowed, same, shape), graph.scalar(0), graph.scalar(-1e9)], { shape });
}
