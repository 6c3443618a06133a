// A scheme as one span of a plan sees it: its own residual basis, and inside the enclave nothing else. Zone: owner. DESIGN section 4.
// Enclave-held weights are sealed anyway; they only have to meet the basis of the accelerator span before (or after) them, and they
// speak the true vocabulary.
import type { Span } from '../../model/spans.js';
import { transposed } from '../../model/weight-tiles.js';
import { change } from './basis.js';
import type { LockScheme } from './lock-scheme.js';

export function lockForSpan(lock: LockScheme, span: Span): LockScheme {
  return {
    ...lock,
    basis: async (space, { block }) => {
      if (span.place === 'enclave' && space !== 'residual') return null;
      return lock.basis(space, { segment: span.basis, block });
    },
  };
}

/**
 * The matrix C [width, width] that takes hidden states of the span into the basis of the next: with Mₐ and M_b the two residual
 * changes, x·Mₐ·C = x·M_b. Null where both are the same.
 */
export async function basisChange(lock: LockScheme, width: number, span: Span): Promise<Float32Array | null> {
  if (span.basis === span.exitBasis) return null;
  const from = await lock.basis('residual', { segment: span.basis, block: null });
  const to = await lock.basis('residual', { segment: span.exitBasis, block: null });
  const identity = new Float32Array(width * width);
  for (let i = 0; i < width; i++) identity[i * width + i] = 1;
  const target = to ? await change(to, 'write', identity, width) : identity;
  const matrix = transposed(target, width, width);
  return from ? change(from, 'read', matrix, width) : matrix;
}
