// Orthogonal Procrustes (Schönemann 1966) at the runtime's speed, for the widths of real models: the turn that brings rows nearest to others.
// Zone: owner (as attacker). Newton and Schulz's iteration in float32, polished in float64.
import { RandomStream } from '../edge/data/random.js';
import { multiply } from '../graph/product.js';
import { multiply as multiplyExactly } from './least-squares.js';

const ROUNDS = 60;
/** Of float64: from rounding of float32 each squares what is left. */
const POLISHES = 2;

/** The orthogonal Q [width, width] that minimises Σ |from·Q − to|² over rows. */
export async function turnBetween(
  from: readonly Float32Array[],
  to: readonly Float32Array[],
  width: number,
): Promise<Float64Array> {
  const shape = { rows: width, inner: width, columns: width };
  let q = new Float32Array(width * width);
  for (const [i, rows] of from.entries()) {
    const n = rows.length / width;
    const products = await multiply(transpose(rows, n, width), to[i]!, { ...shape, inner: n });
    products.forEach((x, at) => {
      q[at]! += x;
    });
  }
  const length = Math.sqrt(q.reduce((sum, x) => sum + x * x, 0));
  const noise = new RandomStream('audit/procrustes', width);
  // Directions that no row had keep a little of everything, or the iteration could not make them orthogonal.
  q = q.map((x) => x / length + 1e-8 * noise.normal());
  for (let round = 0; round < ROUNDS; round += 1) {
    const gram = await multiply(transpose(q, width, width), q, shape);
    const next = (await multiply(q, gram, shape)).map((x, i) => 1.5 * q[i]! - 0.5 * x);
    const moved = next.reduce((sum, x, i) => sum + (x - q[i]!) ** 2, 0);
    q = next;
    if (moved < 1e-10 * width) break;
  }
  let exact = Float64Array.from(q);
  for (let round = 0; round < POLISHES; round += 1) {
    const gram = multiplyExactly(exact, exact, width, true);
    exact = multiplyExactly(exact, gram, width, false).map((x, i) => 1.5 * exact[i]! - 0.5 * x);
  }
  return exact;
}

function transpose(rows: Float32Array, n: number, width: number): Float32Array {
  const out = new Float32Array(rows.length);
  for (let row = 0; row < n; row += 1) for (let i = 0; i < width; i += 1) out[i * n + row] = rows[row * width + i]!;
  return out;
}
