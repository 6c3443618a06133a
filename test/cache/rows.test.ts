// Tail mass, half precision and the row codec: round trips, sizes, and distributions that stay distributions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeRows, encodeRows, rowFormat } from '../../src/edge/cache/row-codec.js';
import {
  createTeacherRows,
  sliceTeacherRows,
  TAIL_FLOOR,
  type TeacherRows,
  tailLogMass,
} from '../../src/edge/cache/rows.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { randomRows } from './random-rows.js';

function roundTrip(rows: TeacherRows, vocabSize: number, precision: 'float16' | 'float32'): TeacherRows {
  const format = rowFormat(rows.k, vocabSize, precision);
  const bytes = new Uint8Array(rows.rows * format.rowBytes);
  assert.equal(encodeRows(format, rows, bytes, 0, 'test'), bytes.length);
  return decodeRows(format, bytes, rows.rows);
}

function massOf(rows: TeacherRows, row: number): number {
  const top = rows.logprobs.subarray(row * rows.k, (row + 1) * rows.k);
  return Math.exp(rows.tail[row]!) + top.reduce((sum, logprob) => sum + Math.exp(logprob), 0);
}

test('float16: a log-probability beyond the range of halves stays a number', () => {
  const rows = createTeacherRows(2, Int32Array.of(1, 2), Float32Array.of(Math.log(0.5), -1e9));
  const back = roundTrip(rows, 8, 'float16');
  assert.ok(back.logprobs[1]! < -60_000 && Number.isFinite(back.logprobs[1]!));
});

test('tail mass keeps its digits when the teacher is nearly certain', () => {
  for (const rest of [1e-3, 1e-5, 1e-7]) {
    const tail = tailLogMass(Float32Array.of(Math.log1p(-rest)), 0, 1);
    assert.ok(Math.abs(tail - Math.log(rest)) < 1e-6, `${rest}: ${tail}`);
  }
  const half = Float32Array.of(Math.log(0.5), Math.log(0.25), Math.log(0.125));
  assert.ok(Math.abs(tailLogMass(half, 0, 3) - Math.log(0.125)) < 1e-6);
  assert.equal(tailLogMass(Float32Array.of(0), 0, 1), TAIL_FLOOR);
  assert.equal(tailLogMass(Float32Array.of(-0.6, -0.6), 0, 2), TAIL_FLOOR);
  assert.equal(tailLogMass(Float32Array.of(Math.log(0.5), Math.log(0.5)), 0, 2) < -14, true);
});

test('property: rows survive the codec; ids exact, float32 exact, float16 close and a distribution', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.constantFrom(2, 3, 100, 512, 700),
      fc.constantFrom(0, 1, 5, 40),
      (seed, vocabSize, sharpness) => {
        const k = Math.min(vocabSize, 1 + (seed % 70));
        const rows = randomRows(new RandomStream('rows', seed), 3, k, vocabSize, sharpness);
        assert.deepEqual(roundTrip(rows, vocabSize, 'float32'), {
          ...rows,
          logprobs: rows.logprobs.map((l) => Math.min(0, l)),
        });
        const half = roundTrip(rows, vocabSize, 'float16');
        assert.deepEqual(half.tokenIds, rows.tokenIds);
        for (let row = 0; row < 3; row++) {
          const mass = massOf(half, row);
          assert.ok(Math.abs(mass - 1) < 1e-6, `mass ${mass}`);
          for (let i = row * k; i < (row + 1) * k; i++) {
            assert.ok(half.logprobs[i]! <= 0);
            assert.ok(Math.abs(Math.exp(half.logprobs[i]!) - Math.exp(rows.logprobs[i]!)) < 2e-3);
            if (i > row * k) assert.ok(half.logprobs[i]! <= half.logprobs[i - 1]!);
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('ids of every width up to 20 bits', () => {
  for (const vocabSize of [1, 2, 512, 49_152, 151_936, 152_064, 2 ** 20]) {
    const k = Math.min(vocabSize, 64);
    const tokenIds = Int32Array.from({ length: k }, (_, i) => vocabSize - 1 - i);
    const rows = createTeacherRows(k, tokenIds, new Float32Array(k).fill(Math.log(1 / (k + 1))));
    assert.deepEqual(roundTrip(rows, vocabSize, 'float16').tokenIds, tokenIds);
  }
});

test('size per token at k = 64', () => {
  assert.equal(rowFormat(64, 49_152, 'float16').rowBytes, 258);
  assert.equal(rowFormat(64, 151_936, 'float16').rowBytes, 274);
  assert.equal(rowFormat(64, 2 ** 20, 'float16').rowBytes, 290);
  assert.equal(rowFormat(64, 151_936, 'float32').rowBytes, 404);
});

test('rows that training could not use are refused', () => {
  const format = rowFormat(2, 10, 'float32');
  const bytes = new Uint8Array(format.rowBytes);
  const refused = (ids: number[], logprobs: number[], message: RegExp): void => {
    const rows = {
      rows: 1,
      k: 2,
      tokenIds: Int32Array.from(ids),
      logprobs: Float32Array.from(logprobs),
      tail: Float32Array.of(-1),
    };
    assert.throws(() => encodeRows(format, rows, bytes, 0, 'example 3'), { code: 'teacher-row', message });
  };
  refused([1, 10], [-1, -2], /example 3, row 0: token id 10/);
  refused([-1, 1], [-1, -2], /token id -1/);
  refused([1, 1], [-1, -2], /twice/);
  refused([1, 2], [-2, -1], /descending/);
  refused([1, 2], [Number.NaN, -1], /NaN/);
  refused([1, 2], [-1, Number.NEGATIVE_INFINITY], /Infinity/);
  refused([1, 2], [0.5, -1], /not a log-probability/);
});

test('slices share memory and line up', () => {
  const rows = randomRows(new RandomStream('slice', 1), 5, 4, 20, 1);
  const part = sliceTeacherRows(rows, 2, 4);
  assert.equal(part.rows, 2);
  assert.deepEqual(part.tokenIds, rows.tokenIds.slice(8, 16));
  assert.deepEqual(part.tail, rows.tail.slice(2, 4));
  assert.throws(() => createTeacherRows(3, new Int32Array(4), new Float32Array(4)), { code: 'teacher-rows-size' });
});
