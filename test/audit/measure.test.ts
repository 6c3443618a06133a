import assert from 'node:assert/strict';
import test from 'node:test';
import { procrustes } from '../../src/audit/least-squares.js';
import { advantageOf, interval, verdictOf } from '../../src/audit/measure.js';
import { RandomStream } from '../../src/edge/data/random.js';

test('advantage is 0 for the black-box student, 1 for the teacher, negative for less', () => {
  const blackBox = { agreement: 0.25, kl: 2 };
  assert.equal(advantageOf(blackBox, blackBox), 0);
  assert.equal(advantageOf({ agreement: 1, kl: 0 }, blackBox), 1);
  assert.ok(advantageOf({ agreement: 0, kl: 4 }, blackBox) < 0);
  // The better one of both measures counts.
  assert.equal(advantageOf({ agreement: 0.25, kl: 1 }, blackBox), 0.5);
});

test('the interval is that of a t distribution, the verdict follows the worst seed and the control', () => {
  const found = interval([1, 2, 3]);
  assert.equal(found.mean, 2);
  assert.ok(Math.abs(found.half! - 4.303 / Math.sqrt(3)) < 1e-9);
  assert.equal(interval([4]).half, null);
  assert.equal(verdictOf(interval([0, 0.04]), true), 'held');
  assert.equal(verdictOf(interval([0, 0.04]), false), 'inconclusive');
  assert.equal(verdictOf(interval([0, 0.06]), false), 'weakened');
  assert.equal(verdictOf(interval([0, 0.5]), true), 'broken');
  assert.equal(verdictOf(interval([Number.NaN]), true), 'inconclusive');
});

test('Procrustes finds the rotation that made the data', () => {
  const random = new RandomStream('test', 2);
  const width = 5;
  const rows = Float32Array.from({ length: 40 * width }, () => random.normal());
  // A plane rotation of the first two coordinates.
  const [c, s] = [Math.cos(0.7), Math.sin(0.7)];
  const turned = rows.slice();
  for (let at = 0; at < rows.length; at += width) {
    turned[at] = c * rows[at]! - s * rows[at + 1]!;
    turned[at + 1] = s * rows[at]! + c * rows[at + 1]!;
  }
  const q = procrustes([rows], [turned], width);
  for (let i = 0; i < width; i += 1)
    for (let j = 0; j < width; j += 1) {
      const expected = i < 2 && j < 2 ? (i === j ? c : i < j ? s : -s) : i === j ? 1 : 0;
      assert.ok(Math.abs(q[i * width + j]! - expected) < 1e-5, `${i},${j}: ${q[i * width + j]}`);
    }
});
