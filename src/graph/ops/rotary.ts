// Rotary position embedding on half-split pairs (Su et al., arXiv 2104.09864): the pair (i, i + e/2) turns by position·θᵢ.
// Zone: edge. The gradient of a rotation is the rotation back.
import type { Graph, Value } from '../graph.js';
import { neg } from './elementwise.js';

/** Tables `cos`, `sin` [positions, headDim/2]. */
export interface RotaryTables {
  readonly cos: Value;
  readonly sin: Value;
}

/** x [batch, heads, tokens, headDim], positions int64 [batch, tokens] → same shape. */
export function rotary(graph: Graph, x: Value, positions: Value, tables: RotaryTables): Value {
  const rotate = (input: Value, sin: Value): Value =>
    graph.emitOne('RotaryEmbedding', [input, positions, tables.cos, sin], { shape: x.shape }, {}, 'com.microsoft');
  return graph.record(rotate(x, tables.sin), [x], (dy) => [rotate(dy, neg(graph, tables.sin))]);
}
