// Alignment on made-up items: order and turn are found again, at sizes where a sample stands for all, and through a low-rank update.
import assert from 'node:assert/strict';
import test from 'node:test';
import { alignBasis } from '../../src/audit/align-basis.js';
import { procrustes } from '../../src/audit/least-squares.js';
import { sharedDirections } from '../../src/audit/residual-directions.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { multiply } from '../../src/graph/product.js';

const width = 24;

function gaussian(purpose: string, rows: number, columns = width): Float32Array {
  const random = new RandomStream(purpose, 1);
  return Float32Array.from({ length: rows * columns }, () => random.normal());
}

/** Items with unlike lengths and a few strong directions, as weights have. */
function items(purpose: string, n: number): Float32Array {
  const random = new RandomStream(`${purpose}/lengths`, 1);
  const lengths = Float64Array.from({ length: n }, () => 0.5 + random.uniform());
  return gaussian(purpose, n).map((x, i) => x * lengths[Math.floor(i / width)]! * (1 + 2 / (1 + (i % width))));
}

function randomTurn(): Float64Array {
  return procrustes([gaussian('turn/from', 2 * width)], [gaussian('turn/to', 2 * width)], width);
}

/** Rows turned by q, moved to places[row]. */
async function lockedBy(rows: Float32Array, q: Float64Array, places: Int32Array): Promise<Float32Array> {
  const shape = { rows: places.length, inner: width, columns: width };
  const turned = await multiply(rows, Float32Array.from(q), shape);
  const out = new Float32Array(rows.length);
  places.forEach((to, row) => {
    out.set(turned.subarray(row * width, (row + 1) * width), to * width);
  });
  return out;
}

function shuffled(n: number): Int32Array {
  return new RandomStream('places', n).shuffle(Int32Array.from({ length: n }, (_, i) => i));
}

function error(found: Float64Array, truth: Float64Array): number {
  return Math.sqrt(found.reduce((sum, x, i) => sum + (x - truth[i]!) ** 2, 0) / width);
}

test('order and turn of more items than a sample holds are found again', async () => {
  const n = 5000;
  const ancestor = items('many', n);
  const [q, places] = [randomTurn(), shuffled(n)];
  const noise = gaussian('noise', n);
  const locked = await lockedBy(
    ancestor.map((x, i) => x + 0.02 * noise[i]!),
    q,
    places,
  );
  const found = await alignBasis([{ ancestor: [ancestor], locked: [locked] }], width);
  assert.ok(error(found.q, q) < 0.01, `turn off by ${error(found.q, q)}`);
  const map = await found.map(0);
  const right = map.filter((to, item) => to === places[item]).length;
  assert.ok(right > 0.99 * n, `${right} of ${n} items`);
  assert.ok(found.distance > 1e-5 && found.distance < 1e-2, `${found.distance}`);
});

test('a low-rank update is told from noise by its singular values', async () => {
  const n = 400;
  const noise = gaussian('floor', n);
  assert.deepEqual(await sharedDirections(noise, 8, width), []);
  const [left, right] = [gaussian('left', n, 3), gaussian('right', 3)];
  const update = await multiply(left, right, { rows: n, inner: 3, columns: width });
  const found = await sharedDirections(
    noise.map((x, i) => 0.05 * x + update[i]!),
    8,
    width,
  );
  assert.equal(found.length, 3);
});

test('alignment through a low-rank update needs the update taken away', async () => {
  const [n, rank] = [300, 2];
  const q = randomTurn();
  const sets: { ancestor: Float32Array[]; locked: Float32Array[] }[] = [];
  for (let block = 0; block < 4; block += 1) {
    const ancestor = items(`block${block}`, n);
    const left = gaussian(`left${block}`, n, rank);
    const right = gaussian(`right${block}`, rank);
    const update = await multiply(left, right, { rows: n, inner: rank, columns: width });
    const moved = ancestor.map((x, i) => x + 0.5 * update[i]!);
    sets.push({ ancestor: [ancestor], locked: [await lockedBy(moved, q, shuffled(n))] });
  }
  const plain = error((await alignBasis(sets, width)).q, q);
  const robust = error((await alignBasis(sets, width, { lowRank: true })).q, q);
  assert.ok(robust < 0.01, `with the update taken away ${robust}`);
  assert.ok(plain > 5 * robust, `plain ${plain}, robust ${robust}`);
});
