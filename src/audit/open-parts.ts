// What lies open in a bundle, basis by basis, and tables in another order of their rows. Zone: owner (as attacker).
import { spansOf } from '../model/spans.js';
import type { Target } from './target.js';

/** What can be read of one bundle. */
export type OpenBundle = Pick<Target, 'scheme' | 'plan' | 'weights'>;

export const EMBEDDING = 'model.embed_tokens.weight';
export const HEAD = 'lm_head.weight';

/** Open parts that are written in one residual basis. */
export interface OpenBasis {
  readonly basis: number;
  readonly blocks: readonly number[];
  readonly embedding: boolean;
  readonly head: boolean;
}

/** In the order of the model. */
export function basesOf({ plan, weights }: OpenBundle): OpenBasis[] {
  const spans = spansOf(plan).filter(({ place }) => place === 'accelerator');
  return [...new Set(spans.map(({ basis }) => basis))].map((basis) => {
    const inside = spans.filter((span) => span.basis === basis);
    const blocks = inside.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, i) => first + i));
    return {
      basis,
      blocks: blocks.filter((block) => weights.has(`model.layers.${block}.mlp.down_proj.weight`)),
      embedding: inside.some(({ embedding }) => embedding),
      head: inside.some(({ head }) => head),
    };
  });
}

/** Embedding and head, where they can be read: the head's gain is in the bundle only with the final norm, unless a rotation folded it. */
export function openTables({ scheme, weights }: OpenBundle): string[] {
  const headReadable = weights.has(HEAD) && (scheme === 'rotation' || weights.has('model.norm.weight'));
  return [...(weights.has(EMBEDDING) ? [EMBEDDING] : []), ...(headReadable ? [HEAD] : [])];
}

/** Row i of the result is row map[i] of `rows` [n, width]; zero where map[i] is −1. */
export function inOrder(rows: Float32Array, map: Int32Array, width: number): Float32Array {
  const out = new Float32Array(map.length * width);
  map.forEach((from, item) => {
    if (from >= 0) out.set(rows.subarray(from * width, (from + 1) * width), item * width);
  });
  return out;
}
