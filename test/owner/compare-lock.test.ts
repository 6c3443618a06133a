// Comparing two models' log-probabilities: figures worked out by hand, near ties, and values that are no numbers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareLocked, type LogProbabilities } from '../../src/owner/compare-lock.js';

const vocabSize = 4;
const ids = Int32Array.of(0, 1);

/** A model that says the same rows whatever it reads. */
function says(...rows: readonly (readonly number[])[]): LogProbabilities {
  return async (asked) => Float32Array.from(Array.from(asked, (_, i) => rows[i % rows.length]!.map(Math.log)).flat());
}

const options = { topK: 2, tolerance: 1e-3 };
const plain = says([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]);

test('the same model: nothing differs', async () => {
  const seen: number[] = [];
  const pair = { original: plain, locked: plain, vocabSize };
  const found = await compareLocked(pair, [ids, ids], { ...options, onTokens: (tokens) => seen.push(tokens) });
  assert.deepEqual(found, { tokens: 4, maxDelta: 0, maxDeltaTopK: 0, agreement: 1, flips: 0, kl: 0, equal: true });
  assert.deepEqual(seen, [2, 4]);
});

test('differences are measured over the top-k and over everything', async () => {
  const locked = says([0.4, 0.3, 0.2, 0.1], [0.2, 0.1, 0.3, 0.4]);
  const found = await compareLocked({ original: plain, locked, vocabSize }, [ids], options);
  assert.ok(Math.abs(found.maxDelta - Math.log(2)) < 1e-6);
  assert.equal(found.maxDeltaTopK, 0, 'the two most likely tokens kept their places');
  assert.ok(Math.abs(found.kl - (0.1 * Math.log(0.5) + 0.2 * Math.log(2)) / 2) < 1e-6);
  assert.deepEqual([found.agreement, found.flips, found.equal], [1, 0, false]);
});

test('another most likely token is a flip, unless it was a near tie', async () => {
  const locked = says([0.3, 0.4, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]);
  const flipped = await compareLocked({ original: plain, locked, vocabSize }, [ids], options);
  assert.deepEqual([flipped.agreement, flipped.flips, flipped.equal], [0.5, 1, false]);
  const tie = says([0.3501, 0.35, 0.2, 0.1]);
  const other = says([0.35, 0.3501, 0.2, 0.1]);
  const near = await compareLocked({ original: tie, locked: other, vocabSize }, [ids], options);
  assert.deepEqual([near.agreement, near.flips, near.equal], [0, 0, true]);
});

test('what is no number, or no token at all, never passes', async () => {
  const locked = says([0.4, 0.3, 0.2, Number.NaN], [0.1, 0.2, 0.3, 0.4]);
  const found = await compareLocked({ original: plain, locked, vocabSize }, [ids], { topK: 4, tolerance: 100 });
  assert.equal(found.maxDelta, Number.POSITIVE_INFINITY);
  assert.equal(found.equal, false);
  assert.equal((await compareLocked({ original: plain, locked: plain, vocabSize }, [], options)).equal, false);
});
