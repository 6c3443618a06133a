// Linear algebra for attackers: regularised least squares without forming matrices, and the orthogonal map between two bases.
// Zone: owner. Row-vector convention, rows in float32, sums in float64.
import { RandomStream } from '../edge/data/random.js';

/** One linear equation rows[index]·w = target, counted `weight` times. */
export interface Observations {
  readonly index: Int32Array;
  readonly target: Float64Array;
  readonly weight: Float64Array;
}

/**
 * w minimising Σ weight·(rows[index]·w − target)² + ridge·|w − start|², by conjugate gradients on the normal equations (Hestenes and
 * Stiefel 1952). `rows` is [n, width].
 */
export function leastSquares(
  rows: Float32Array,
  width: number,
  { index, target, weight }: Observations,
  ridge: number,
  start: Float64Array = new Float64Array(width),
  iterations = 40,
): Float64Array {
  const w = start.slice();
  const apply = (v: Float64Array): Float64Array => {
    const out = new Float64Array(width);
    for (let i = 0; i < width; i += 1) out[i] = ridge * v[i]!;
    for (let n = 0; n < index.length; n += 1) {
      const at = index[n]! * width;
      let dot = 0;
      for (let i = 0; i < width; i += 1) dot += rows[at + i]! * v[i]!;
      dot *= weight[n]!;
      for (let i = 0; i < width; i += 1) out[i]! += dot * rows[at + i]!;
    }
    return out;
  };
  const residual = new Float64Array(width);
  for (let n = 0; n < index.length; n += 1) {
    const at = index[n]! * width;
    let error = target[n]!;
    for (let i = 0; i < width; i += 1) error -= rows[at + i]! * w[i]!;
    error *= weight[n]!;
    for (let i = 0; i < width; i += 1) residual[i]! += error * rows[at + i]!;
  }
  const direction = residual.slice();
  const norm = (v: Float64Array): number => v.reduce((sum, x) => sum + x * x, 0);
  let before = norm(residual);
  const enough = before * 1e-12;
  for (let round = 0; round < iterations && before > enough && before > 0; round += 1) {
    const moved = apply(direction);
    const step = before / direction.reduce((sum, x, i) => sum + x * moved[i]!, 0);
    for (let i = 0; i < width; i += 1) {
      w[i]! += step * direction[i]!;
      residual[i]! -= step * moved[i]!;
    }
    const after = norm(residual);
    for (let i = 0; i < width; i += 1) direction[i] = residual[i]! + (after / before) * direction[i]!;
    before = after;
  }
  return w;
}

/** Rows of `values` [n, width] averaged by label; labels never seen get the mean of all that were. */
export function meanByLabel(
  values: readonly Float32Array[],
  labels: readonly Int32Array[],
  labelCount: number,
  width: number,
): Float32Array {
  const sums = new Float64Array(labelCount * width);
  const counts = new Float64Array(labelCount);
  values.forEach((rows, text) => {
    labels[text]!.forEach((label, row) => {
      counts[label]! += 1;
      for (let i = 0; i < width; i += 1) sums[label * width + i]! += rows[row * width + i]!;
    });
  });
  const table = new Float32Array(labelCount * width);
  const mean = new Float64Array(width);
  let seen = 0;
  for (let label = 0; label < labelCount; label += 1) {
    if (counts[label] === 0) continue;
    seen += 1;
    for (let i = 0; i < width; i += 1) {
      table[label * width + i] = sums[label * width + i]! / counts[label]!;
      mean[i]! += table[label * width + i]!;
    }
  }
  for (let label = 0; label < labelCount; label += 1)
    if (counts[label] === 0) for (let i = 0; i < width; i += 1) table[label * width + i] = mean[i]! / Math.max(1, seen);
  return table;
}

/**
 * The orthogonal Q [width, width] that brings rows of `from` nearest to rows of `to` (orthogonal Procrustes, Schönemann 1966): the polar
 * factor of fromᵀ·to, by Newton and Schulz's iteration.
 */
export function procrustes(from: readonly Float32Array[], to: readonly Float32Array[], width: number): Float64Array {
  let q = new Float64Array(width * width);
  from.forEach((rows, text) => {
    const other = to[text]!;
    for (let at = 0; at < rows.length; at += width)
      for (let i = 0; i < width; i += 1) {
        const x = rows[at + i]!;
        for (let j = 0; j < width; j += 1) q[i * width + j]! += x * other[at + j]!;
      }
  });
  const frobenius = Math.sqrt(q.reduce((sum, x) => sum + x * x, 0));
  const noise = new RandomStream('audit/procrustes', width);
  // Directions that no row had keep a little of everything, or the iteration could not make them orthogonal.
  q = q.map((x) => x / frobenius + 1e-9 * noise.normal());
  for (let round = 0; round < 60; round += 1) {
    const gram = multiply(q, q, width, true);
    const next = multiply(q, gram, width, false).map((x, i) => 1.5 * q[i]! - 0.5 * x);
    const moved = next.reduce((sum, x, i) => sum + (x - q[i]!) ** 2, 0);
    q = next;
    if (moved < 1e-18) break;
  }
  return q;
}

/** a·b, or aᵀ·b with `transposed`; all [n, n]. */
export function multiply(a: Float64Array, b: Float64Array, n: number, transposed: boolean): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1)
    for (let k = 0; k < n; k += 1) {
      const x = transposed ? a[k * n + i]! : a[i * n + k]!;
      if (x === 0) continue;
      for (let j = 0; j < n; j += 1) out[i * n + j]! += x * b[k * n + j]!;
    }
  return out;
}
