// Rank and row space of a matrix, by the eigenvectors of its Gram matrix, and how much of one space lies in another.
// Zone: owner (as attacker, and to measure what attackers found).
import type { Leak } from './attack.js';
import { cholesky, eigen, solveLower } from './symmetric.js';

/** A rank is counted up to the widest gap between neighbouring singular values, if that is at least so wide. */
const GAP = 10;
const FLOOR = 1e-7;

export interface RowSpace {
  readonly rank: number;
  /** Orthonormal, `rank` vectors as long as a row. */
  readonly basis: readonly Float64Array[];
  /** Falling. */
  readonly singularValues: Float64Array;
}

/** Without a gap the rank is that of the matrix's smaller side: nothing was found. */
export function rowSpace(rows: readonly Float64Array[]): RowSpace {
  const n = rows.length;
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1)
    for (let j = 0; j <= i; j += 1) {
      const value = dot(rows[i]!, rows[j]!);
      gram[i * n + j] = value;
      gram[j * n + i] = value;
    }
  const { values, vectors } = eigen(gram, n);
  const singularValues = values.map((value) => Math.sqrt(Math.max(value, 0)));
  let rank = Math.min(n, rows[0]!.length);
  let widest = GAP;
  const floor = FLOOR * singularValues[0]!;
  for (let i = 0; i + 1 < n; i += 1) {
    const gap = singularValues[i]! / Math.max(singularValues[i + 1]!, floor);
    if (gap > widest) [widest, rank] = [gap, i + 1];
  }
  const basis = Array.from({ length: rank }, (_, r) => {
    const out = new Float64Array(rows[0]!.length);
    rows.forEach((row, i) => {
      const share = vectors[r * n + i]! / singularValues[r]!;
      for (let c = 0; c < out.length; c += 1) out[c]! += share * row[c]!;
    });
    return out;
  });
  return { rank, basis, singularValues };
}

/**
 * Share of the head's column space that a leak has found, 0 to 1: mean squared cosine of the principal angles between both, constants
 * left out on both sides, over the head's width. `head` is [vocabulary, width].
 */
export function shareOfHead({ rank, span }: Leak, head: Float32Array, width: number): number {
  const vocabulary = head.length / width;
  const centred = Float64Array.from(head);
  for (let c = 0; c < width; c += 1) {
    let mean = 0;
    for (let at = c; at < head.length; at += width) mean += head[at]! / vocabulary;
    for (let at = c; at < head.length; at += width) centred[at]! -= mean;
  }
  const gram = new Float64Array(width * width);
  for (let at = 0; at < centred.length; at += width)
    for (let i = 0; i < width; i += 1) {
      const x = centred[at + i]!;
      for (let j = 0; j <= i; j += 1) gram[i * width + j]! += x * centred[at + j]!;
    }
  // Of each found direction, the part in the head's space: |L⁻¹·headᵀ·direction|² with headᵀ·head = L·Lᵀ.
  const root = cholesky(gram, width);
  let share = 0;
  for (let r = 0; r < rank; r += 1) {
    const along = new Float64Array(width);
    for (let v = 0; v < vocabulary; v += 1) {
      const x = span[r * vocabulary + v]!;
      if (x !== 0) for (let c = 0; c < width; c += 1) along[c]! += x * centred[v * width + c]!;
    }
    solveLower(root, width, along);
    share += dot(along, along) / width;
  }
  return share;
}

/**
 * Principal directions of hidden·tokensᵀ over the vocabulary, constants (which normalisers take up) left out. `tokens` is
 * [vocabulary, rank], `hidden` [rows, rank + 1], its last column not used; tokens that are not `seen` are 0.
 */
export function productSpace(
  { rank, tokens, hidden }: { readonly rank: number; readonly tokens: Float64Array; readonly hidden: Float64Array },
  rows: number,
  seen: Uint8Array,
): { readonly scales: Float64Array; readonly span: Float64Array } {
  const vocabulary = seen.length;
  const count = seen.reduce((sum, x) => sum + x, 0);
  const centred = new Float64Array(vocabulary * rank);
  for (let c = 0; c < rank; c += 1) {
    let mean = 0;
    for (let id = 0; id < vocabulary; id += 1) if (seen[id] === 1) mean += tokens[id * rank + c]! / count;
    for (let id = 0; id < vocabulary; id += 1)
      if (seen[id] === 1) centred[id * rank + c] = tokens[id * rank + c]! - mean;
  }
  // hiddenᵀ·hidden / rows = L·Lᵀ, so centred·L has the scale of log-probabilities, and its Gram matrix their spectrum.
  const moments = new Float64Array(rank * rank);
  for (let row = 0; row < rows; row += 1) {
    const at = row * (rank + 1);
    for (let i = 0; i < rank; i += 1)
      for (let j = 0; j <= i; j += 1) moments[i * rank + j]! += (hidden[at + i]! * hidden[at + j]!) / rows;
  }
  const trace = Array.from({ length: rank }, (_, i) => moments[i * rank + i]!).reduce((a, b) => a + b, 0);
  for (let i = 0; i < rank; i += 1) moments[i * rank + i]! += 1e-12 * trace;
  const root = cholesky(moments, rank);
  const scaled = new Float64Array(vocabulary * rank);
  for (let id = 0; id < vocabulary; id += 1)
    for (let c = 0; c < rank; c += 1) {
      let sum = 0;
      for (let i = c; i < rank; i += 1) sum += centred[id * rank + i]! * root[i * rank + c]!;
      scaled[id * rank + c] = sum;
    }
  const gram = new Float64Array(rank * rank);
  for (let id = 0; id < vocabulary; id += 1)
    for (let i = 0; i < rank; i += 1)
      for (let j = 0; j < rank; j += 1) gram[i * rank + j]! += scaled[id * rank + i]! * scaled[id * rank + j]!;
  const { values, vectors } = eigen(gram, rank);
  const kept = values.findIndex((value) => value <= 1e-14 * values[0]!);
  const found = kept < 0 ? rank : kept;
  const span = new Float64Array(found * vocabulary);
  for (let r = 0; r < found; r += 1)
    for (let id = 0; id < vocabulary; id += 1) {
      let sum = 0;
      for (let c = 0; c < rank; c += 1) sum += vectors[r * rank + c]! * scaled[id * rank + c]!;
      span[r * vocabulary + id] = sum / Math.sqrt(values[r]!);
    }
  return { scales: Float64Array.from(values.subarray(0, found), (x) => Math.sqrt(x / vocabulary)), span };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i]! * b[i]!;
  return sum;
}
