// Off by one: the teacher's row for position p must meet the label at p+1, through masks, packing, the cache and batches.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createTeacherRows, type TeacherRows } from '../../src/edge/cache/rows.js';
import { openTeacherCache } from '../../src/edge/cache/teacher-cache.js';
import { createBatches, targetsOf } from '../../src/edge/data/batches.js';
import {
  countTargets,
  createExample,
  type Example,
  hashExamples,
  teacherPositions,
} from '../../src/edge/data/example.js';
import { RandomStream } from '../../src/edge/data/random.js';

const VOCAB = 997;
const root = mkdtempSync(join(tmpdir(), 'distillock-align-'));
after(() => rmSync(root, { recursive: true }));

/** The fake teacher's certain opinion about what follows a token. */
const following = (token: number): number => (token * 31 + 7) % VOCAB;

/** Texts that the fake teacher itself would write, so that its first choice at p is the token at p+1. */
function examples(): Example[] {
  const random = new RandomStream('align', 1);
  return Array.from({ length: 40 }, () => {
    const ids = new Int32Array(2 + random.below(30));
    ids[0] = random.below(VOCAB);
    for (let t = 1; t < ids.length; t++) ids[t] = following(ids[t - 1]!);
    return createExample(
      ids,
      Uint8Array.from(ids, (_, t) => (t === 0 ? 0 : random.below(2))),
    );
  });
}

function teach(example: Example): TeacherRows {
  const positions = teacherPositions(example);
  const ids = Array.from(positions, (p) => [
    following(example.inputIds[p]!),
    (following(example.inputIds[p]!) + 1) % VOCAB,
  ]).flat();
  return createTeacherRows(
    2,
    Int32Array.from(ids),
    Float32Array.from(ids, (_, i) => Math.log(i % 2 === 0 ? 0.7 : 0.2)),
  );
}

test('every label is the first choice of its teacher row', async () => {
  const data = examples();
  const key = {
    bundleId: 'b',
    tokenizerHash: 't',
    textHash: hashExamples(data),
    k: 2,
    temperature: 1,
    precision: 'float16',
    vocabSize: VOCAB,
  } as const;
  const cache = await openTeacherCache(root, key, data.map(countTargets));
  for (const shard of cache.missingShards()) {
    const [start, end] = cache.examplesOf(shard);
    await cache.writeShard(shard, data.slice(start, end).map(teach));
  }
  const batches = createBatches(data, {
    batchSize: 3,
    maxLength: 64,
    packing: true,
    seed: 5,
    shuffle: true,
    padTokenId: 0,
  });
  let checked = 0;
  let shiftedAgreements = 0;
  for (let index = 0; index < batches.batchesPerEpoch; index++) {
    const batch = batches.batchAt(2, index);
    const { positions, labels } = targetsOf(batch, data);
    let row = 0;
    for (const slot of batch.slots) {
      const rows = cache.readExample(slot.example);
      for (let i = 0; i < rows.rows; i++, row++) {
        assert.equal(rows.tokenIds[2 * i], labels[row]);
        assert.equal(following(batch.inputIds[positions[row]!]!), labels[row]);
        if (rows.tokenIds[2 * i] === batch.inputIds[positions[row]!]) shiftedAgreements++;
        checked++;
      }
    }
    assert.equal(row, labels.length);
  }
  assert.equal(
    checked,
    data.reduce((sum, example) => sum + countTargets(example), 0),
  );
  assert.equal(shiftedAgreements, 0);
});

test('the text hash covers ids, masks, lengths and order', () => {
  const [a, b] = examples() as [Example, Example];
  const flipped = a.lossMask.map((bit, t) => (t === 1 ? 1 - bit : bit));
  const hashes = [[a, b], [b, a], [a], [createExample(a.inputIds, flipped), b]].map(hashExamples);
  assert.equal(new Set(hashes).size, hashes.length);
  assert.equal(hashExamples([a, b]), hashes[0]);
});
