import assert from 'node:assert/strict';
import test from 'node:test';
import { cholesky, eigen, solveDefinite } from '../../src/audit/symmetric.js';
import { RandomStream } from '../../src/edge/data/random.js';

function randomSymmetric(n: number, rank: number): Float64Array {
  const random = new RandomStream('test', n);
  const factor = Float64Array.from({ length: n * rank }, () => random.normal());
  return Float64Array.from({ length: n * n }, (_, at) => {
    let sum = 0;
    for (let c = 0; c < rank; c += 1) sum += factor[Math.floor(at / n) * rank + c]! * factor[(at % n) * rank + c]!;
    return sum;
  });
}

const near = (a: number, b: number, scale: number): void => assert.ok(Math.abs(a - b) < 1e-9 * scale, `${a} ${b}`);

test('eigenvectors are orthonormal, falling, and give the matrix back, full rank or not', () => {
  for (const [n, rank] of [
    [1, 1],
    [2, 2],
    [17, 17],
    [40, 9],
  ] as const) {
    const a = randomSymmetric(n, rank);
    const { values, vectors } = eigen(a, n);
    for (let i = 0; i < n; i += 1)
      for (let j = 0; j < n; j += 1) {
        let product = 0;
        let back = 0;
        for (let c = 0; c < n; c += 1) {
          product += vectors[i * n + c]! * vectors[j * n + c]!;
          back += values[c]! * vectors[c * n + i]! * vectors[c * n + j]!;
        }
        near(product, i === j ? 1 : 0, 1);
        near(back, a[i * n + j]!, values[0]!);
      }
    values.forEach((value, i) => {
      if (i > 0) assert.ok(value <= values[i - 1]!);
      if (i >= rank) near(value, 0, values[0]!);
    });
  }
});

test('definite systems are solved, others refused', () => {
  const n = 12;
  const a = randomSymmetric(n, n);
  const x = Float64Array.from({ length: n }, (_, i) => i - 4);
  const b = Float64Array.from(x, (_, i) => x.reduce((sum, value, j) => sum + a[i * n + j]! * value, 0));
  solveDefinite(cholesky(a.slice(), n), n, b);
  for (let i = 0; i < n; i += 1) assert.ok(Math.abs(b[i]! - x[i]!) < 1e-6);
  assert.throws(() => cholesky(Float64Array.of(1, 2, 2, 1), 2), RangeError);
});
