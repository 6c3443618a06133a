// Half-precision rounding against a table of all finite halves: nearest, ties to even.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { roundToFloat16 } from '../../src/trusted/enclave/float16.js';

/** All non-negative finite halves in order; the index is their bit pattern. */
const halves = Array.from({ length: 0x7c00 }, (_, bits) => {
  const exponent = bits >> 10;
  const fraction = bits & 1023;
  return exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
});

test('every half is itself, every midpoint goes to the even neighbour, its float32 neighbours to the nearer one', () => {
  for (let bits = 0; bits + 1 < halves.length; bits++) {
    const low = halves[bits]!;
    const high = halves[bits + 1]!;
    const middle = (low + high) / 2;
    const nudge = Math.max(middle * 2 ** -23, 2 ** -149);
    assert.equal(roundToFloat16(-low) + 0, 0 - low); // The sign of zero is free.
    assert.equal(roundToFloat16(-middle) + 0, 0 - (bits % 2 === 0 ? low : high));
    assert.equal(roundToFloat16(Math.fround(middle - nudge)), low);
    assert.equal(roundToFloat16(Math.fround(middle + nudge)), high);
  }
});

test('any float32 goes to a nearest half, and beyond the range to the largest', () => {
  fc.assert(
    fc.property(fc.float({ min: -70000, max: 0, noNaN: true }), (value) => {
      const rounded = roundToFloat16(value);
      const bits = halves.indexOf(Math.abs(rounded));
      assert.ok(bits >= 0);
      const error = Math.abs(rounded - value);
      for (const near of [halves[bits - 1], halves[bits + 1]]) {
        if (near !== undefined) assert.ok(error <= Math.abs(-near - value));
      }
    }),
  );
  assert.equal(roundToFloat16(-1e30), -65504);
});
