// What a low-rank update (a merged LoRA, or a lock's low-rank noise) has added to a matrix: the directions of the difference of two matrices
// that stand out of noise. Zone: owner (as attacker). Threshold: the largest singular value that noise of the remaining energy has
// (√n + √width)·σ, the edge of the Marchenko-Pastur law; removal before matching follows arXiv 2608.21615.
import { RandomStream } from '../edge/data/random.js';
import { multiply } from '../graph/product.js';

const ROUNDS = 40;
/** Times the edge. */
const ABOVE_EDGE = 1.2;
/** Rounding of float32 is no update. */
const FLOOR = 1e-9;

/** Up to `rank` orthonormal directions [width] that the rows of `difference` [n, width] share; none where it is noise. */
export async function sharedDirections(difference: Float32Array, rank: number, width: number): Promise<Float32Array[]> {
  const n = difference.length / width;
  const most = Math.min(rank, Math.floor(width / 2), n - 1);
  if (most < 1) return [];
  const gram = await gramOf(difference, width);
  const vectors = leading(gram, width, most);
  const energies = vectors.map((vector) => dot(vector, times(gram, vector, width)));
  let trace = 0;
  for (let i = 0; i < width; i += 1) trace += gram[i * width + i]!;
  let found = 0;
  let left = trace;
  // Noise is what a rank leaves: the largest rank whose last direction stands above it.
  energies.forEach((energy, r) => {
    left -= energy;
    const variance = Math.max(left, 0) / (n * (width - r - 1));
    const threshold = (ABOVE_EDGE * (Math.sqrt(n) + Math.sqrt(width))) ** 2 * variance;
    if (energy > threshold && energy > FLOOR * trace) found = r + 1;
  });
  return vectors.slice(0, found).map((vector) => Float32Array.from(vector));
}

/** Rows without their share along the directions, in place. */
export function removeDirections(rows: Float32Array, directions: readonly Float32Array[], width: number): Float32Array {
  for (let at = 0; at < rows.length; at += width)
    for (const direction of directions) {
      let along = 0;
      for (let i = 0; i < width; i += 1) along += rows[at + i]! * direction[i]!;
      for (let i = 0; i < width; i += 1) rows[at + i]! -= along * direction[i]!;
    }
  return rows;
}

/** rowsᵀ·rows, [width, width]. */
export async function gramOf(rows: Float32Array, width: number): Promise<Float32Array> {
  const n = rows.length / width;
  const turned = new Float32Array(rows.length);
  for (let row = 0; row < n; row += 1) for (let i = 0; i < width; i += 1) turned[i * n + row] = rows[row * width + i]!;
  return multiply(turned, turned, { rows: width, inner: n, columns: width, transB: true });
}

/** The `count` leading eigenvectors of a symmetric matrix, by orthogonal iteration. */
function leading(gram: Float32Array, width: number, count: number): Float64Array[] {
  const random = new RandomStream('audit/directions', width);
  let vectors = orthonormal(
    Array.from({ length: count }, () => Float64Array.from({ length: width }, () => random.normal())),
  );
  for (let round = 0; round < ROUNDS; round += 1)
    vectors = orthonormal(vectors.map((vector) => times(gram, vector, width)));
  const energy = (vector: Float64Array): number => dot(vector, times(gram, vector, width));
  return vectors
    .map((vector) => ({ vector, size: energy(vector) }))
    .sort((a, b) => b.size - a.size)
    .map(({ vector }) => vector);
}

// Gram and Schmidt, twice for accuracy.
function orthonormal(vectors: readonly Float64Array[]): Float64Array[] {
  const out: Float64Array[] = [];
  for (const vector of vectors) {
    for (let twice = 0; twice < 2; twice += 1)
      for (const known of out) {
        const along = dot(vector, known);
        for (let i = 0; i < vector.length; i += 1) vector[i]! -= along * known[i]!;
      }
    const norm = Math.sqrt(dot(vector, vector));
    if (norm > 0) out.push(vector.map((x) => x / norm));
  }
  return out;
}

function times(matrix: Float32Array, vector: Float64Array, width: number): Float64Array {
  const out = new Float64Array(width);
  for (let i = 0; i < width; i += 1) {
    let sum = 0;
    for (let j = 0; j < width; j += 1) sum += matrix[i * width + j]! * vector[j]!;
    out[i] = sum;
  }
  return out;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i]! * b[i]!;
  return sum;
}
