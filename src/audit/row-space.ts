// Rank and row space of a matrix, by the eigenvectors of its Gram matrix (cyclic Jacobi), and how much of one space lies in another.
// Zone: owner (as attacker, and to measure what attackers found).
import type { Leak } from './attack.js';

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
  const vectors = jacobi(gram, n);
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => gram[b * n + b]! - gram[a * n + a]!);
  const singularValues = Float64Array.from(order, (i) => Math.sqrt(Math.max(gram[i * n + i]!, 0)));
  let rank = Math.min(n, rows[0]!.length);
  let widest = GAP;
  const floor = FLOOR * singularValues[0]!;
  for (let i = 0; i + 1 < n; i += 1) {
    const gap = singularValues[i]! / Math.max(singularValues[i + 1]!, floor);
    if (gap > widest) [widest, rank] = [gap, i + 1];
  }
  const basis = order.slice(0, rank).map((column, r) => {
    const out = new Float64Array(rows[0]!.length);
    rows.forEach((row, i) => {
      const share = vectors[i * n + column]! / singularValues[r]!;
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
  const columns = Array.from({ length: width }, (_, c) => {
    const column = Float64Array.from({ length: vocabulary }, (__, v) => head[v * width + c]!);
    const mean = column.reduce((a, b) => a + b, 0) / vocabulary;
    return column.map((x) => x - mean);
  });
  let share = 0;
  for (const truth of orthonormal(columns))
    for (let r = 0; r < rank; r += 1)
      share += dot(truth, span.subarray(r * vocabulary, (r + 1) * vocabulary)) ** 2 / width;
  return share;
}

// Gram and Schmidt, twice for accuracy.
function orthonormal(vectors: readonly Float64Array[]): Float64Array[] {
  const out: Float64Array[] = [];
  for (const vector of vectors) {
    const left = vector.slice();
    for (let twice = 0; twice < 2; twice += 1)
      for (const known of out) {
        const along = dot(left, known);
        for (let i = 0; i < left.length; i += 1) left[i]! -= along * known[i]!;
      }
    const norm = Math.sqrt(dot(left, left));
    if (norm > 1e-9 * Math.sqrt(dot(vector, vector))) out.push(left.map((x) => x / norm));
  }
  return out;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i]! * b[i]!;
  return sum;
}

/** Diagonalises symmetric `a` [n, n] in place; returns eigenvectors as columns. */
function jacobi(a: Float64Array, n: number): Float64Array {
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1) vectors[i * n + i] = 1;
  for (let sweep = 0; sweep < 12; sweep += 1) {
    let off = 0;
    let diagonal = 0;
    for (let i = 0; i < n; i += 1)
      for (let j = 0; j < n; j += 1) {
        if (i === j) diagonal += a[i * n + j]! ** 2;
        else off += a[i * n + j]! ** 2;
      }
    if (off < 1e-28 * diagonal) break;
    for (let p = 0; p < n; p += 1)
      for (let q = p + 1; q < n; q += 1) {
        const apq = a[p * n + q]!;
        if (apq === 0) continue;
        const theta = (a[q * n + q]! - a[p * n + p]!) / (2 * apq);
        const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let i = 0; i < n; i += 1) turn(a, i * n + p, i * n + q, c, s);
        for (let i = 0; i < n; i += 1) turn(a, p * n + i, q * n + i, c, s);
        for (let i = 0; i < n; i += 1) turn(vectors, i * n + p, i * n + q, c, s);
      }
  }
  return vectors;
}

function turn(m: Float64Array, x: number, y: number, c: number, s: number): void {
  const [first, second] = [m[x]!, m[y]!];
  m[x] = c * first - s * second;
  m[y] = s * first + c * second;
}
