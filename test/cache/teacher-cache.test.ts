// The cache on disk: resume, and every way in which a shard can be wrong. A wrong shard is set aside and never read.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type CacheKey, layoutShards, SHARD_ROWS } from '../../src/edge/cache/key.js';
import type { TeacherRows } from '../../src/edge/cache/rows.js';
import { type CacheOptions, openTeacherCache, type TeacherCache } from '../../src/edge/cache/teacher-cache.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { randomRows } from './random-rows.js';

const root = mkdtempSync(join(tmpdir(), 'distillock-cache-'));
after(() => rmSync(root, { recursive: true }));
let folders = 0;
const newFolder = (): string => join(root, String(folders++));

const key: CacheKey = {
  bundleId: 'b',
  tokenizerHash: 't',
  textHash: 'x',
  k: 4,
  temperature: 1,
  precision: 'float32',
  vocabSize: 50,
};
const counts = [3, 0, SHARD_ROWS - 3, 5, 2];
const rowsOf = (example: number): TeacherRows => randomRows(new RandomStream('e', example), counts[example]!, 4, 50, 1);
const clamped = (rows: TeacherRows): TeacherRows => ({ ...rows, logprobs: rows.logprobs.map((l) => Math.min(0, l)) });

async function fill(cache: TeacherCache, shards: readonly number[] = cache.missingShards()): Promise<void> {
  for (const shard of shards) {
    const [start, end] = cache.examplesOf(shard);
    await cache.writeShard(
      shard,
      Array.from({ length: end - start }, (_, i) => rowsOf(start + i)),
    );
  }
}

async function filled(
  options: CacheOptions = {},
): Promise<{ dir: string; cache: TeacherCache; path: (shard: number) => string }> {
  const dir = newFolder();
  const cache = await openTeacherCache(dir, key, counts, options);
  await fill(cache);
  return { dir, cache, path: (shard) => join(cache.stats().folder, `${String(shard).padStart(6, '0')}.shard`) };
}

test('shards close before SHARD_ROWS rows and keep examples whole', () => {
  assert.deepEqual(
    layoutShards(counts).map(({ start, end, rows }) => [start, end, rows]),
    [
      [0, 3, SHARD_ROWS],
      [3, 5, 7],
    ],
  );
  assert.deepEqual(
    layoutShards([9999, 1]).map(({ rows }) => rows),
    [9999, 1],
  );
  assert.deepEqual(layoutShards([]), []);
});

test('what was written is read, from memory, from disk and after reopening', async () => {
  const { dir, cache } = await filled();
  const cold = await openTeacherCache(dir, key, counts);
  const tight = await openTeacherCache(dir, key, counts, { memoryBytes: 0 });
  assert.deepEqual(cold.missingShards(), []);
  for (const example of [4, 0, 2, 1, 3, 0]) {
    for (const reader of [cache, cold, tight, tight])
      assert.deepEqual(reader.readExample(example), clamped(rowsOf(example)));
  }
  assert.equal(cold.stats().rows, SHARD_ROWS + 7);
  assert.equal(cold.stats().bytesPerRow, 3 + 5 * 4);
  assert.throws(() => cold.readExample(5), RangeError);
});

test('an interrupted capture goes on with the missing shards', async () => {
  const dir = newFolder();
  const cache = await openTeacherCache(dir, key, counts);
  assert.deepEqual(cache.missingShards(), [0, 1]);
  await fill(cache, [1]);
  const resumed = await openTeacherCache(dir, key, counts);
  assert.deepEqual(resumed.missingShards(), [0]);
  assert.deepEqual(resumed.readExample(4), clamped(rowsOf(4)));
  assert.throws(() => resumed.readExample(0), { code: 'cache-shard-missing' });
  assert.equal(resumed.stats().present, 1);
});

test('another key, another mask: another folder', async () => {
  const { dir } = await filled();
  const changes: Partial<CacheKey>[] = [
    { bundleId: 'c' },
    { tokenizerHash: 'c' },
    { textHash: 'c' },
    { k: 5 },
    { temperature: 2 },
    { precision: 'float16' },
    { vocabSize: 51 },
  ];
  for (const change of changes) {
    assert.deepEqual((await openTeacherCache(dir, { ...key, ...change }, counts)).missingShards(), [0, 1]);
  }
  assert.deepEqual((await openTeacherCache(dir, key, [...counts].reverse())).missingShards(), [0, 1]);
  assert.deepEqual((await openTeacherCache(dir, key, counts)).missingShards(), []);
  assert.equal(readdirSync(dir).length, changes.length + 2);
});

test('a bit flipped at any byte of a shard is found before a row is used', async () => {
  const { dir, path } = await filled();
  const good = readFileSync(path(1));
  for (let byte = 0; byte < good.length; byte++) {
    const bad = Buffer.from(good);
    bad[byte]! ^= 1 << (byte % 8);
    writeFileSync(path(1), bad);
    const cache = await openTeacherCache(dir, key, counts);
    if (cache.missingShards().length === 0)
      assert.throws(() => cache.readExample(3), { code: 'cache-shard-altered', kind: 'verification' });
    assert.deepEqual(cache.missingShards(), [1]);
    assert.equal(cache.stats().setAside.length, 1);
  }
  assert.equal(readdirSync(join(path(1), '..')).filter((name) => name.includes('set-aside')).length, good.length);
});

test('a shard truncated at any byte, or too long, is set aside when the cache opens', async () => {
  const { dir, path } = await filled();
  const good = readFileSync(path(1));
  for (let length = 0; length < good.length; length += 7) {
    writeFileSync(path(1), good);
    truncateSync(path(1), length);
    const heard: string[] = [];
    const cache = await openTeacherCache(dir, key, counts, { onSetAside: ({ reason }) => heard.push(reason) });
    assert.deepEqual(cache.missingShards(), [1]);
    assert.match(heard[0]!, length < 64 ? /not a cache shard/ : /truncated: \d+ of \d+ bytes/);
  }
  writeFileSync(path(1), Buffer.concat([good, Buffer.of(0)]));
  assert.deepEqual((await openTeacherCache(dir, key, counts)).missingShards(), [1]);
});

test('a shard of another cache or another place is set aside, kept, and captured anew', async () => {
  const { dir, path } = await filled();
  const other = await openTeacherCache(dir, { ...key, temperature: 2 }, counts);
  await fill(other);
  writeFileSync(path(1), readFileSync(join(other.stats().folder, '000001.shard')));
  const cache = await openTeacherCache(dir, key, counts);
  assert.match(cache.stats().setAside[0]!.reason, /another teacher, text or setting/);
  writeFileSync(path(1), readFileSync(path(0)));
  const swapped = await openTeacherCache(dir, key, counts);
  assert.match(swapped.stats().setAside[0]!.reason, /another part of the data/);
  await fill(swapped);
  assert.deepEqual((await openTeacherCache(dir, key, counts)).missingShards(), []);
  assert.deepEqual(readdirSync(join(path(1), '..')), [
    '000000.shard',
    '000001.shard',
    '000001.shard.set-aside-0',
    '000001.shard.set-aside-1',
    'key.json',
  ]);
});

test('verify finds altered contents, so that a resumed capture repairs them', async () => {
  const { dir, path } = await filled();
  const bad = readFileSync(path(0));
  bad[5000]! ^= 4;
  writeFileSync(path(0), bad);
  const cache = await openTeacherCache(dir, key, counts);
  assert.deepEqual(cache.missingShards(), []);
  cache.verify();
  assert.deepEqual(cache.missingShards(), [0]);
  await fill(cache);
  assert.deepEqual(cache.readExample(2), clamped(rowsOf(2)));
});

test('a damaged key.json is written again; shards do not depend on it', async () => {
  const { dir, cache } = await filled();
  const file = join(cache.stats().folder, 'key.json');
  const good = readFileSync(file, 'utf8');
  writeFileSync(file, good.slice(0, 20));
  assert.deepEqual((await openTeacherCache(dir, key, counts)).missingShards(), []);
  assert.equal(readFileSync(file, 'utf8'), good);
  assert.equal(JSON.parse(good).bundleId, 'b');
});

test('rows that do not fit and keys out of range are refused', async () => {
  const cache = await openTeacherCache(newFolder(), key, counts);
  await assert.rejects(cache.writeShard(1, [rowsOf(3)]), { code: 'cache-shard-rows' });
  await assert.rejects(cache.writeShard(1, [rowsOf(4), rowsOf(3)]), { code: 'cache-shard-rows' });
  assert.deepEqual(cache.missingShards(), [0, 1]);
  for (const change of [
    { k: 0 },
    { k: 51 },
    { vocabSize: 2 ** 20 + 1 },
    { temperature: 0 },
    { temperature: Number.NaN },
  ]) {
    await assert.rejects(openTeacherCache(newFolder(), { ...key, ...change }, counts), { code: 'cache-key' });
  }
});
