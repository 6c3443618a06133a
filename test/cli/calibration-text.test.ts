// How calibration text becomes token sequences: plain text half as it stands and half as documents, json records as documents alone.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { readCalibration } from '../../src/cli/calibration-text.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { openTokenizer } from '../../src/model/tokenizer.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { STORIES } from './command-line.js';

const length = 256;
const separator = '<|endoftext|>';
const documents = Array.from({ length: 60 }, (_, i) =>
  `Tale ${i}: the café was shut, so dog number ${i} took a nap and the cat went on to play in the park. `
    .repeat(3)
    .trim(),
);
const text = documents.join(`\n${separator}\n`);

test('plain text is read in turns as it stands and as documents; json records are documents', async (t) => {
  const folder = await temporaryFolder(t);
  const { config, tokenizer: files, tensors } = await openCheckpoint(STORIES);
  t.after(() => tensors.close());
  const [plain, marked, lines] = ['own.txt', 'marked.txt', 'own.jsonl'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(plain, text);
  await writeFile(marked, `\uFEFF${text}`);
  await writeFile(lines, documents.map((document) => JSON.stringify({ text: document })).join('\n'));
  const read = (file: string): Promise<Int32Array[]> => readCalibration(file, files, config, 2048);

  const [mixed, asDocuments] = [await read(plain), await read(lines)];
  const tokenizer = await openTokenizer(files);
  const asItStands = tokenizer.encode(text);
  assert.equal(asDocuments.length, 8);
  assert.equal(mixed.length, 8);
  for (const [i, ids] of mixed.entries()) {
    const expected = i % 2 === 0 ? asItStands.slice(i * length, (i + 1) * length) : asDocuments[i]!;
    assert.deepEqual([...ids], [...expected], `sequence ${i}`);
  }
  const has = (sequences: readonly Int32Array[]): boolean =>
    sequences.some((ids) => tokenizer.decode(ids).includes(separator));
  assert.deepEqual([has(mixed), has(asDocuments)], [true, false], 'only text as it stands has separators');
  const ends = (sequences: readonly Int32Array[]): boolean =>
    sequences.some((ids) => ids.includes(tokenizer.eosTokenId!));
  assert.deepEqual([ends(mixed), ends([asItStands])], [true, false], 'only documents end by EOS');
  assert.deepEqual(await read(marked), mixed, 'a byte order mark is no text');
});
