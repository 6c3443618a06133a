// Who is nearest to whom among the rows of two tables, some rows at a time: memory grows with the rows, not with their square.
// Zone: owner (as attacker). Products at the runtime's speed: 49,152 tokens of width 576 take half a minute on two cores.
import { multiply } from '../graph/product.js';
import { bestAssignment } from './assignment.js';

export interface Matches {
  /** Row of `mine` → nearest row of `theirs`. */
  readonly best: Int32Array;
  /** Squared distance to it as a share of that to the second nearest, 0 to 1. */
  readonly ratio: Float64Array;
  /** Row of `theirs` → nearest row of `mine`. */
  readonly back: Int32Array;
}

/** Scores alive at once. */
const BLOCK_SCORES = 1 << 24;
/** Up to here a map is the best one-to-one map (cubic time, memory n²), beyond it the nearest. */
export const ASSIGNED = 1024;

/** `mine` is [n, width], `theirs` [m, width]. */
export async function nearestRows(mine: Float32Array, theirs: Float32Array, width: number): Promise<Matches> {
  const [n, m] = [mine.length / width, theirs.length / width];
  const [mySquares, theirSquares] = [squares(mine, width), squares(theirs, width)];
  const best = new Int32Array(n).fill(-1);
  const ratio = new Float64Array(n);
  const back = new Int32Array(m).fill(-1);
  const backLeast = new Float64Array(m).fill(Number.POSITIVE_INFINITY);
  const rows = Math.max(1, Math.floor(BLOCK_SCORES / m));
  for (let first = 0; first < n; first += rows) {
    const end = Math.min(n, first + rows);
    const block = mine.subarray(first * width, end * width);
    const products = await multiply(block, theirs, { rows: end - first, inner: width, columns: m, transB: true });
    for (let i = first; i < end; i += 1) {
      const at = (i - first) * m;
      let [nearest, least, second] = [-1, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
      for (let j = 0; j < m; j += 1) {
        // Rounding may leave less than nothing.
        const distance = Math.max(mySquares[i]! + theirSquares[j]! - 2 * products[at + j]!, 0);
        if (distance < least) [nearest, second, least] = [j, least, distance];
        else if (distance < second) second = distance;
        if (distance < backLeast[j]!) {
          backLeast[j] = distance;
          back[j] = i;
        }
      }
      best[i] = nearest;
      ratio[i] = second > 0 ? least / second : 1;
    }
  }
  return { best, ratio, back };
}

/** Row of `mine` → row of `theirs`, both [n, width]: one to one where n is small enough, the nearest beyond that. */
export async function mapRows(mine: Float32Array, theirs: Float32Array, width: number): Promise<Int32Array> {
  const n = mine.length / width;
  if (n > ASSIGNED) return (await nearestRows(mine, theirs, width)).best;
  const products = await multiply(mine, theirs, { rows: n, inner: width, columns: n, transB: true });
  const [mySquares, theirSquares] = [squares(mine, width), squares(theirs, width)];
  const scores = Float64Array.from(products, (x, i) => 2 * x - mySquares[Math.floor(i / n)]! - theirSquares[i % n]!);
  return bestAssignment(scores, n);
}

/** Tables [n, width] as one [n, tables·width]. */
export function sideBySide(tables: readonly Float32Array[], width: number): Float32Array {
  if (tables.length === 1) return tables[0]!;
  const wide = width * tables.length;
  const out = new Float32Array(tables[0]!.length * tables.length);
  tables.forEach((table, part) => {
    for (let row = 0; row * width < table.length; row += 1)
      out.set(table.subarray(row * width, (row + 1) * width), row * wide + part * width);
  });
  return out;
}

function squares(rows: Float32Array, width: number): Float64Array {
  const out = new Float64Array(rows.length / width);
  for (let i = 0; i < rows.length; i += 1) out[Math.floor(i / width)]! += rows[i]! ** 2;
  return out;
}
