// Dataset files: every format, and errors that name file, line, field or byte.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { type ReadOptions, readDataset, splitRecords } from '../../src/edge/data/read.js';
import type { DataRecord } from '../../src/edge/data/record.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';

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

test('prompts and completions that are messages stay messages, and say where the completion begins', async () => {
  const line = { prompt: [{ role: 'user', content: 'a' }], completion: [{ role: 'assistant', content: 'b' }] };
  assert.deepEqual(kinds(await read('c.jsonl', JSON.stringify(line))), [
    { kind: 'messages', messages: [...line.prompt, ...line.completion], completionFrom: 1, line: 1 },
  ]);
});

test('labels may be numbers or truth values in JSON', async () => {
  const lines = ['{"text":"a","label":3}', '{"text":"b","label":false}', '{"text":"c","label":"z"}'].join('\n');
  const records = await read('labels.jsonl', lines, { textField: 'text', labelField: 'label' });
  assert.deepEqual(
    records.map((record) => record.kind === 'completion' && record.completion),
    ['3', 'false', 'z'],
  );
  await assert.rejects(read('labels.jsonl', '{"text":"a","label":0.5}', { textField: 'text', labelField: 'label' }), {
    message: /labels\.jsonl:1: field "label" is not text but a number/,
  });
});

const GOOD: readonly string[] = [
  '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}',
  '{"prompt":"a","completion":"b"}',
  '{"text":"a"}',
  '{"instruction":"a","input":"b","output":"c"}',
];

test('property: a damaged line is read or refused with its file and line, nothing else', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...GOOD),
      fc.nat(200),
      fc.constantFrom('', '"', '{', '[', ',', 'null', '0', '\u0000', '\\'),
      fc.boolean(),
      async (line, position, text, insert) => {
        const at = position % line.length;
        const damaged = line.slice(0, at) + text + line.slice(at + (insert ? 0 : 1));
        try {
          const records = await read('damaged.jsonl', `${line}\n${damaged}\n`);
          assert.ok(records.every(({ origin }) => origin.line === 1 || origin.line === 2));
        } catch (error) {
          assert.ok(error instanceof DistillockError, String(error));
          assert.match(error.message, /damaged\.jsonl:2: /);
          assert.equal(error.details.line, 2);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('property: a field that is missing, empty or of another type is named', async () => {
  const values = fc.constantFrom(undefined, '', null, 7, true, [], {});
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...GOOD.slice(1)), fc.nat(2), values, async (line, which, value) => {
      const record = JSON.parse(line) as Record<string, unknown>;
      const name = Object.keys(record)[which % Object.keys(record).length]!;
      const optional = name === 'input' && (value === undefined || value === '' || value === null);
      const reading = read('field.jsonl', `${line}\n${JSON.stringify({ ...record, [name]: value })}`);
      if (optional) await reading;
      else
        await assert.rejects(reading, {
          code: 'dataset-field',
          message: new RegExp(`field\\.jsonl:2: field "${name}"`),
        });
    }),
    { numRuns: 100 },
  );
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
    ['object.json', '{\n"train": []\n}', 'dataset-json', /object\.json: one JSON object over several lines/],
    [
      'mixed.jsonl',
      '{"text":"a"}\n{"prompt":"b","completion":"c"}',
      'dataset-mixed',
      /mixed\.jsonl:2: reads as completion, the record of line 1 as text/,
    ],
    [
      'input.jsonl',
      '{"instruction":"a","input":3,"output":"b"}',
      'dataset-field',
      /field "input" is not text but a number/,
    ],
    [
      'turns.jsonl',
      '{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"x"}]}',
      'dataset-field',
      /completion\[0\]\.content/,
    ],
    [
      'half.jsonl',
      '{"prompt":[{"role":"user","content":"a"}],"completion":"b"}',
      'dataset-field',
      /"prompt" is not text but a list/,
    ],
    ['list.jsonl', '[1]', 'dataset-record', /list\.jsonl:1: is not a JSON object/],
    ['empty.jsonl', '\n\n', 'dataset-empty', /empty\.jsonl/],
    ['empty.txt', '', 'dataset-empty', /empty\.txt/],
  ];
  for (const [name, content, code, message] of cases)
    await assert.rejects(read(name, content), { code, message }, name);
  await assert.rejects(read('a.arrow', 'ARROW1'), { code: 'dataset-extension', kind: 'unsupported' });
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
