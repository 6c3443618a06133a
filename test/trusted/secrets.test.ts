// Secrets of a lock: pinned for a seed, bijective, uniform; and the sealed part that carries the seed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sealPart } from '../../src/owner/seal-parts.js';
import { openPart } from '../../src/trusted/lock/sealed-part.js';
import { invertPermutation, LabelledStream } from '../../src/trusted/lock/stream.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';

const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
const shape = { hiddenSize: 8, vocabSize: 12 };

test('the secrets of a seed never change', () => {
  const vocabulary = vocabularyPermutation(seed, 'permutation', 12);
  assert.deepEqual([...vocabulary], [10, 6, 4, 2, 9, 8, 7, 5, 1, 11, 3, 0]);
  const other = seed.map((byte, i) => (i === 31 ? byte ^ 1 : byte));
  assert.notDeepEqual(vocabularyPermutation(other, 'permutation', 12), vocabulary);
  assert.notDeepEqual(vocabularyPermutation(seed, 'rotation', 12), vocabulary);
});

test('every permutation is a bijection, and its inverse undoes it', () => {
  for (const size of [1, 2, 3, 97, 5000]) {
    const permutation = new LabelledStream(seed, `test/${size}`).permutation(size);
    assert.deepEqual(
      [...permutation].sort((a, b) => a - b),
      Array.from({ length: size }, (_, i) => i),
    );
    const inverse = invertPermutation(permutation);
    for (let i = 0; i < size; i++) assert.equal(inverse[permutation[i]!], i);
  }
});

test('permutations of four are uniform: chi-squared over 24 orders, 24,000 draws', () => {
  const counts = new Map<string, number>();
  for (let draw = 0; draw < 24_000; draw++) {
    const order = new LabelledStream(seed, `draw/${draw}`).permutation(4).join();
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.equal(counts.size, 24);
  const chiSquared = [...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  // 23 degrees of freedom: 49.7 is exceeded once in a thousand; the seed is fixed, so this passes or fails for good.
  assert.ok(chiSquared < 49.7, `chi-squared ${chiSquared}`);
});

test('bounded integers have no modulo bias', () => {
  // 3 · 2^30 leaves a quarter of the words over: taking them modulo the bound would double the lower third's share.
  const stream = new LabelledStream(seed, 'bias');
  const bound = 3 * 2 ** 30;
  let low = 0;
  for (let draw = 0; draw < 30_000; draw++) if (stream.below(bound) < 2 ** 30) low++;
  assert.ok(Math.abs(low - 10_000) < 400, `${low} of 30000 in the lower third`);
});

test('a seed of another length is refused', () => {
  assert.throws(() => vocabularyPermutation(new Uint8Array(31), 'rotation', 12), RangeError);
});

test('the sealed part opens only with its key, scheme and shape, is reproducible, and every bit counts', () => {
  const key = seed.map((byte) => byte ^ 0x55);
  const blob = sealPart({ lockSeed: seed }, key, 'permutation', shape);
  assert.deepEqual(openPart(blob, key, 'permutation', shape).lockSeed, seed);
  assert.deepEqual(sealPart({ lockSeed: seed }, key, 'permutation', shape), blob);
  assert.throws(() => openPart(blob, seed, 'permutation', shape), { kind: 'verification', code: 'sealed' });
  assert.throws(() => openPart(blob, key, 'permutation', { ...shape, vocabSize: 13 }), { code: 'sealed' });
  for (let at = 0; at < blob.length; at++) {
    assert.throws(
      () =>
        openPart(
          blob.map((byte, i) => (i === at ? byte ^ 1 : byte)),
          key,
          'permutation',
          shape,
        ),
      { code: 'sealed' },
    );
    assert.throws(() => openPart(blob.slice(0, at), key, 'permutation', shape), { code: 'sealed' });
  }
});
