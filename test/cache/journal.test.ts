// The journal of an incomplete shard: what was kept survives a stop, a torn or altered end does not count, the shard is the same.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { CacheKey } from '../../src/edge/cache/key.js';
import { openTeacherCache, type TeacherCache } from '../../src/edge/cache/teacher-cache.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { randomRows } from './random-rows.js';

const root = mkdtempSync(join(tmpdir(), 'distillock-journal-'));
after(() => rmSync(root, { recursive: true }));
let folders = 0;

const key: CacheKey = {
  bundleId: 'b',
  tokenizerHash: 't',
  textHash: 'x',
  k: 4,
  temperature: 1,
  precision: 'float16',
  vocabSize: 50,
};
const counts = [3, 5, 2];
const rowsOf = (example: number) => randomRows(new RandomStream('e', example), counts[example]!, 4, 50, 1);
const open = (dir: string): Promise<TeacherCache> => openTeacherCache(dir, key, counts);
const newFolder = (): string => join(root, String(folders++));

/** A cache whose examples 2 and 0 were kept, in that order, and its journal. */
async function begun(): Promise<{ dir: string; journal: string }> {
  const dir = newFolder();
  const cache = await open(dir);
  cache.keep(0, [2], [rowsOf(2)]);
  cache.keep(0, [0], [rowsOf(0)]);
  const { folder } = cache.stats();
  return { dir, journal: join(folder, readdirSync(folder).find((name) => name.endsWith('.journal'))!) };
}

test('a stopped shard goes on, and ends as the same bytes as an unbroken one', async () => {
  const { dir, journal } = await begun();
  const resumed = await open(dir);
  assert.deepEqual([...resumed.kept(0)].sort(), [0, 2]);
  await assert.rejects(resumed.finishShard(0), /lacks the rows of example 1/);
  resumed.keep(0, [1], [rowsOf(1)]);
  await resumed.finishShard(0);
  assert.ok(!existsSync(journal));
  assert.deepEqual(resumed.missingShards(), []);
  const whole = await open(newFolder());
  await whole.writeShard(0, [rowsOf(0), rowsOf(1), rowsOf(2)]);
  const shard = (cache: TeacherCache): Buffer => readFileSync(join(cache.stats().folder, '000000.shard'));
  assert.deepEqual(shard(resumed), shard(whole));
});

test('truncated at every byte: whole records count, the rest is cut off and written again', async () => {
  const { dir, journal } = await begun();
  const bytes = readFileSync(journal);
  const record = (example: number): number => 8 + counts[example]! * (3 + 5 * 2) + 32;
  const firstEnd = bytes.length - record(0);
  for (let length = 0; length < bytes.length; length += 1) {
    writeFileSync(journal, bytes.subarray(0, length));
    const kept = [...(await open(dir)).kept(0)];
    assert.deepEqual(kept, length < firstEnd ? [] : [2], `at ${length} bytes`);
  }
  const again = await open(dir);
  again.keep(0, [0], [rowsOf(0)]);
  assert.deepEqual([...(await open(dir)).kept(0)].sort(), [0, 2]);
});

test('a flipped bit ends the journal before its record; a flipped header empties it', async () => {
  const { dir, journal } = await begun();
  const bytes = readFileSync(journal);
  for (let at = 0; at < bytes.length; at += 1) {
    const altered = Buffer.from(bytes);
    altered[at]! ^= 1 << (at % 8);
    writeFileSync(journal, altered);
    const kept = (await open(dir)).kept(0);
    assert.ok(kept.size < 2, `byte ${at} was altered and still counts`);
  }
});
