// Dataset files: every format, and errors that name file, line, field or byte.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ReadOptions, readDataset, splitRecords } from '../../src/edge/data/read.js';
import type { DataRecord } from '../../src/edge/data/record.js';

const folder = mkdtempSync(join(tmpdir(), 'distillock-read-'));
after(() => rmSync(folder, { recursive: true }));

async function read(name: string, content: string | Uint8Array, options: ReadOptions = {}): Promise<DataRecord[]> {
  const file = join(folder, name);
  writeFileSync(file, content);
  return readDataset(file, options);
}
const kinds = (records: readonly DataRecord[]): unknown[] =>
  records.map(({ origin, ...rest }) => ({ ...rest, line: origin.line }));

test('jsonl formats are found by the fields of the first line', async () => {
  const messages = [{ role: 'user', content: 'a' }];
  assert.deepEqual(kinds(await read('m.jsonl', `\n${JSON.stringify({ messages })}\r\n`)), [
    { kind: 'messages', messages, line: 2 },
  ]);
  assert.deepEqual(kinds(await read('p.jsonl', '{"prompt":"a","completion":" b"}')), [
    { kind: 'completion', prompt: 'a', rawPrompt: 'a', completion: ' b', line: 1 },
  ]);
  assert.deepEqual(kinds(await read('t.jsonl', '{"text":"é"}\n{"text":"b","id":1}\n')), [
    { kind: 'text', text: 'é', line: 1 },
    { kind: 'text', text: 'b', line: 2 },
  ]);
});

test('Alpaca joins instruction and input; without a template it has the prompt of the original script', async () => {
  const [first, second] = await read(
    'a.json',
    JSON.stringify([
      { instruction: 'I', input: 'X', output: 'O' },
      { instruction: 'J', input: '', output: 'P' },
    ]),
  );
  assert.ok(first?.kind === 'completion' && second?.kind === 'completion');
  assert.equal(first.prompt, 'I\n\nX');
  assert.match(
    first.rawPrompt,
    /^Below is an instruction .*, paired with .*### Instruction:\nI\n\n### Input:\nX\n\n### Response:\n$/s,
  );
  assert.equal(second.prompt, 'J');
  assert.doesNotMatch(second.rawPrompt, /Input/);
});

test('columns can be named, and are then joined by a line break', async () => {
  const line = '{"question":"1+1?","answer":"2"}';
  const options = { promptField: 'question', completionField: 'answer' };
  assert.deepEqual(kinds(await read('g.jsonl', line, options)), [
    { kind: 'completion', prompt: '1+1?', rawPrompt: '1+1?\n', completion: '2', line: 1 },
  ]);
  assert.equal((await read('n.jsonl', '{"body":"x"}', { textField: 'body' }))[0]?.kind, 'text');
});

test('plain text: documents end at separator lines, empty ones are skipped', async () => {
  const text = '\uFEFFone\n two\n\n<|endoftext|>\n\n<|endoftext|>\r\nthree\n';
  assert.deepEqual(kinds(await read('x.txt', text)), [
    { kind: 'text', text: 'one\n two', line: 1 },
    { kind: 'text', text: 'three', line: 7 },
  ]);
  assert.equal((await read('y.txt', 'just\none', {})).length, 1);
});

test('limit stops early', async () => {
  assert.equal((await read('l.jsonl', '{"text":"a"}\n{"text":"b"}\nbroken', { limit: 2 })).length, 2);
});

test('errors name file, line and field', async () => {
  const cases: readonly (readonly [string, string, string, RegExp])[] = [
    ['bad.jsonl', '{"text":"a"}\n{"text":', 'dataset-json', /bad\.jsonl:2: not JSON/],
    ['bad.json', '[1, 2', 'dataset-json', /bad\.json:1/],
    [
      'miss.jsonl',
      '{"text":"a"}\n{"prompt":"b"}',
      'dataset-field',
      /miss\.jsonl:2: field "text" is missing; the line has "prompt"/,
    ],
    ['empty-field.jsonl', '{"text":""}', 'dataset-field', /field "text" is empty/],
    ['type.jsonl', '{"text":3}', 'dataset-field', /field "text" is not text but a number/],
    ['role.jsonl', '{"messages":[{"role":"user"}]}', 'dataset-field', /messages\[0\]\.content/],
    ['none.jsonl', '{"messages":[]}', 'dataset-field', /field "messages"/],
    ['what.jsonl', '{"question":"a"}', 'dataset-format', /dataset_prompt_field/],
    ['list.jsonl', '[1]', 'dataset-record', /list\.jsonl:1: is not a JSON object/],
    ['empty.jsonl', '\n\n', 'dataset-empty', /empty\.jsonl/],
    ['empty.txt', '', 'dataset-empty', /empty\.txt/],
  ];
  for (const [name, content, code, message] of cases)
    await assert.rejects(read(name, content), { code, message }, name);
  await assert.rejects(read('a.parquet', 'PAR1'), { code: 'dataset-extension', kind: 'unsupported' });
  await assert.rejects(readDataset(join(folder, 'absent.jsonl')), { code: 'file-missing', kind: 'environment' });
});

test('a byte that is not UTF-8 is named by its offset, wherever it is', async () => {
  const good = Buffer.from('{"text":"é"}\n');
  for (const [bytes, at] of [
    [[0xff], 0],
    [[0x61, 0xc3, 0x28], 2],
    [[0xe2, 0x82], 2],
    [[0xed, 0xa0, 0x80], 1],
  ] as const) {
    const offset = good.length + at;
    await assert.rejects(
      read('u.jsonl', Buffer.concat([good, Buffer.from(bytes)])),
      (error: { code: string; details: unknown; message: string }) => {
        assert.equal(error.code, 'not-utf8');
        assert.deepEqual(error.details, { file: join(folder, 'u.jsonl'), offset });
        assert.match(error.message, new RegExp(`offset ${offset}\\b`));
        return true;
      },
    );
  }
});

test('lines longer than the read buffer and characters across its edge survive', async () => {
  const long = 'é'.repeat(700_000);
  const [record] = await read('long.txt', `a${long}`);
  assert.ok(record?.kind === 'text' && record.text === `a${long}`);
});

test('the split is by seed, keeps order, loses nothing and shares nothing', async () => {
  const records = await read('s.jsonl', Array.from({ length: 50 }, (_, i) => `{"text":"${i}"}`).join('\n'));
  const { train, validation } = splitRecords(records, 0.1, 7);
  assert.equal(validation.length, 5);
  assert.deepEqual(new Set([...train, ...validation]), new Set(records));
  assert.deepEqual(
    train,
    records.filter((record) => !validation.includes(record)),
  );
  assert.deepEqual(splitRecords(records, 0.1, 7).validation, validation);
  assert.notDeepEqual(splitRecords(records, 0.1, 8).validation, validation);
  assert.equal(splitRecords(records.slice(0, 1), 0.5, 7).train.length, 1);
  assert.equal(splitRecords(records.slice(0, 2), 0.01, 7).validation.length, 1);
});
