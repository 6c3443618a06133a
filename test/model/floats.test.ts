// F16 and BF16 conversion: every half, rounding to nearest even, vectors from IEEE 754.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  halfToNumber,
  narrow,
  numberToBfloat16,
  numberToHalf,
  widen,
} from '../../src/model/checkpoint/float-formats.js';

test('every half widens and narrows to itself', () => {
  for (let half = 0; half < 65536; half++) {
    const value = halfToNumber(half);
    if (Number.isNaN(value)) assert.ok(Number.isNaN(halfToNumber(numberToHalf(value))));
    else assert.equal(numberToHalf(value), half);
  }
});

test('half vectors', () => {
  const vectors: [number, number][] = [
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 * 1.0001, 0x0001],
    [3 * 2 ** -25, 0x0002],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [-0, 0x8000],
    [Number.NEGATIVE_INFINITY, 0xfc00],
  ];
  for (const [value, half] of vectors) assert.equal(numberToHalf(value), half, String(value));
});

test('bfloat16 vectors', () => {
  const vectors: [number, number][] = [
    [1, 0x3f80],
    [1 + 2 ** -8, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3f82],
    [-0, 0x8000],
    [3.4e38, 0x7f80],
    [Number.POSITIVE_INFINITY, 0x7f80],
  ];
  for (const [value, word] of vectors) assert.equal(numberToBfloat16(value), word, String(value));
  assert.ok(Number.isNaN(widen(narrow(Float32Array.of(Number.NaN), 'BF16'), 'BF16')[0]));
});

test('narrowing picks the nearest representable value', () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true, min: -60000, max: 60000 }), (value) => {
      const half = numberToHalf(value);
      const error = Math.abs(halfToNumber(half) - value);
      for (const neighbour of [half - 1, half + 1]) {
        if ((neighbour & 0x7fff) > 0x7c00 || neighbour < 0) continue;
        assert.ok(error <= Math.abs(halfToNumber(neighbour) - value));
      }
    }),
  );
});
