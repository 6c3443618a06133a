// Who is whom: soft assignments by entropic optimal transport (Sinkhorn, Cuturi 2013) and the best hard one (Kuhn's Hungarian method in
// Jonker and Volgenant's form). Zone: owner (as attacker). Matrices are square, [n, n] row-major, higher scores are better.

/** The one-to-one map row → column with the largest total score. O(n³). */
export function bestAssignment(score: Float64Array, n: number): Int32Array {
  const rowPrice = new Float64Array(n + 1);
  const columnPrice = new Float64Array(n + 1);
  const rowOf = new Int32Array(n + 1);
  const from = new Int32Array(n + 1);
  for (let row = 1; row <= n; row += 1) {
    rowOf[0] = row;
    let column = 0;
    const least = new Float64Array(n + 1).fill(Number.POSITIVE_INFINITY);
    const used = new Uint8Array(n + 1);
    do {
      used[column] = 1;
      const at = rowOf[column]!;
      let delta = Number.POSITIVE_INFINITY;
      let next = 0;
      for (let j = 1; j <= n; j += 1) {
        if (used[j] === 1) continue;
        const cost = -score[(at - 1) * n + j - 1]! - rowPrice[at]! - columnPrice[j]!;
        if (cost < least[j]!) {
          least[j] = cost;
          from[j] = column;
        }
        if (least[j]! < delta) {
          delta = least[j]!;
          next = j;
        }
      }
      for (let j = 0; j <= n; j += 1)
        if (used[j] === 1) {
          rowPrice[rowOf[j]!]! += delta;
          columnPrice[j]! -= delta;
        } else least[j]! -= delta;
      column = next;
    } while (rowOf[column] !== 0);
    for (; column !== 0; column = from[column]!) rowOf[column] = rowOf[from[column]!]!;
  }
  const map = new Int32Array(n);
  for (let j = 1; j <= n; j += 1) map[rowOf[j]! - 1] = j - 1;
  return map;
}

/** Doubly stochastic matrix nearest to exp(score / temperature); `temperature` is a share of the scores' spread. */
export function sinkhorn(score: Float64Array, n: number, temperature: number, rounds = 30): Float64Array {
  let mean = 0;
  let squares = 0;
  for (const x of score) {
    mean += x / score.length;
    squares += (x * x) / score.length;
  }
  const scale = 1 / (temperature * Math.sqrt(Math.max(squares - mean * mean, 1e-30)));
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1) {
    let top = Number.NEGATIVE_INFINITY;
    for (let j = 0; j < n; j += 1) top = Math.max(top, score[i * n + j]!);
    for (let j = 0; j < n; j += 1) out[i * n + j] = Math.exp((score[i * n + j]! - top) * scale) + 1e-30;
  }
  for (let round = 0; round < rounds; round += 1) {
    const columns = new Float64Array(n);
    for (let i = 0; i < n; i += 1) {
      let sum = 0;
      for (let j = 0; j < n; j += 1) sum += out[i * n + j]!;
      for (let j = 0; j < n; j += 1) {
        out[i * n + j]! /= sum;
        columns[j]! += out[i * n + j]!;
      }
    }
    for (let i = 0; i < n; i += 1) for (let j = 0; j < n; j += 1) out[i * n + j]! /= columns[j]!;
  }
  return out;
}
