// Parquet: class names out of the metadata, nested messages, compressions, and damaged files.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as zlib from 'node:zlib';
import fc from 'fast-check';
import { readDataset } from '../../src/edge/data/read.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';

const FIXTURES = 'test/fixtures/data';
const folder = mkdtempSync(join(tmpdir(), 'distillock-parquet-'));
after(() => rmSync(folder, { recursive: true }));

test('clinc150: numbers of classes become their names, over all row groups', async () => {
  const file = join(FIXTURES, 'clinc150.parquet');
  const records = await readDataset(file, { textField: 'text', labelField: 'intent' });
  assert.equal(records.length, 150);
  const [first] = records;
  assert.ok(first?.kind === 'completion');
  assert.deepEqual(first.origin, { file, line: 1 });
  assert.match(first.completion, /^[a-z_]+$/);
  assert.equal(new Set(records.map((record) => record.kind === 'completion' && record.completion)).size, 150);
  assert.deepEqual(records.at(-1)!.origin, { file, line: 150 });
  assert.equal((await readDataset(file, { limit: 65 })).length, 65);
  await assert.rejects(readDataset(file, { textField: 'utterance', labelField: 'intent' }), {
    code: 'dataset-field',
    message: /clinc150\.parquet:1: field "utterance" is missing; the line has "text", "intent"/,
  });
});

test('conversations, under every compression that this Node can unpack', async () => {
  const readable = ['gzip', 'brotli', ...('zstdDecompressSync' in zlib ? ['zstd'] : [])];
  for (const codec of ['gzip', 'brotli', 'zstd', 'lz4']) {
    const file = join(FIXTURES, `chat-${codec}.parquet`);
    if (!readable.includes(codec)) {
      await assert.rejects(readDataset(file), {
        code: 'parquet-codec',
        kind: 'unsupported',
        message: /write it again with snappy or gzip/,
      });
      continue;
    }
    const records = await readDataset(file);
    assert.deepEqual(records[1], {
      kind: 'messages',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'Größe von π?' },
        { role: 'assistant', content: 'Etwa 3,14.' },
      ],
      origin: { file, line: 2 },
    });
  }
});

test('what is no parquet file, or part of one, is refused by name', async () => {
  const good = readFileSync(join(FIXTURES, 'clinc150.parquet'));
  const file = join(folder, 'bad.parquet');
  const options = { textField: 'text', labelField: 'intent' };
  for (const bytes of [Buffer.from('text,category\n'), Buffer.alloc(0), good.subarray(0, 2000), good.subarray(100)]) {
    writeFileSync(file, bytes);
    await assert.rejects(readDataset(file, options), {
      code: 'dataset-parquet',
      message: /bad\.parquet: cannot be read/,
    });
  }
  await assert.rejects(readDataset(join(folder, 'absent.parquet'), options), { code: 'file-missing' });
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), fc.nat(7), async (at, bit) => {
      const damaged = Buffer.from(good);
      damaged[at]! ^= 1 << bit;
      writeFileSync(file, damaged);
      try {
        // A flipped bit inside a text may go unnoticed: parquet pages need no checksum.
        await readDataset(file, options);
      } catch (error) {
        assert.ok(error instanceof DistillockError, String(error));
        assert.match(error.message, /bad\.parquet/);
      }
    }),
    { numRuns: 150 },
  );
});
