// CSV and TSV: named columns, quoting, classification with templates, and errors with file, line and column.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { type ReadOptions, readDataset } from '../../src/edge/data/read.js';
import type { DataRecord } from '../../src/edge/data/record.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';

const folder = mkdtempSync(join(tmpdir(), 'distillock-csv-'));
after(() => rmSync(folder, { recursive: true }));

async function read(name: string, content: string | Uint8Array, options: ReadOptions = {}): Promise<DataRecord[]> {
  const file = join(folder, name);
  writeFileSync(file, content);
  return readDataset(file, options);
}
const pairs = (records: readonly DataRecord[]): unknown[] =>
  records.map((record) => {
    assert.ok(record.kind === 'completion');
    return [record.origin.line, record.rawPrompt, record.completion];
  });
const CLASSES: ReadOptions = { textField: 'text', labelField: 'category' };

test('banking77: classification as completion, with and without a template', async () => {
  const file = 'test/fixtures/data/banking77.csv';
  const records = await readDataset(file, CLASSES);
  assert.equal(records.length, 201);
  assert.deepEqual(pairs(records.slice(0, 1)), [[2, 'I am still waiting on my card?\n', 'card_arrival']]);
  const promptTemplate = 'Message: {text}\nIntent: ';
  const asked = await readDataset(file, { ...CLASSES, promptTemplate, limit: 2 });
  assert.deepEqual(pairs(asked)[0], [2, 'Message: I am still waiting on my card?\nIntent: ', 'card_arrival']);
  assert.equal(asked.length, 2);
  // The columns are also what any other format may have.
  assert.equal((await readDataset(file))[0]?.kind, 'text');
});

test('quotes, delimiters and line breaks in fields; a row is on the line where it begins', async () => {
  const text = '\uFEFFtext,category\r\n"a, ""b""",x\r\n\r\n"two\r\nlines",y\r\n\u00e9 ,"z"';
  assert.deepEqual(pairs(await read('q.csv', text, CLASSES)), [
    [2, 'a, "b"\n', 'x'],
    [4, 'two\nlines\n', 'y'],
    [6, '\u00e9 \n', 'z'],
  ]);
});

test('tabs in .tsv, another delimiter when it is set, CSV under another name when it is said', async () => {
  const expected = [[2, 'a, b\n', 'x']];
  assert.deepEqual(pairs(await read('t.tsv', 'text\tcategory\na, b\tx\n', CLASSES)), expected);
  const semicolon = { ...CLASSES, delimiter: ';' };
  assert.deepEqual(pairs(await read('s.csv', 'text;category\na, b;x\n', semicolon)), expected);
  const named: ReadOptions = { ...CLASSES, format: 'csv' };
  assert.deepEqual(pairs(await read('data', 'text,category\n"a, b",x\n', named)), expected);
});

test('columns with the usual names need no settings', async () => {
  assert.deepEqual(pairs(await read('p.csv', 'prompt,completion\nQ:,A\n')), [[2, 'Q:', 'A']]);
  const [alpaca] = await read('a.csv', 'instruction,input,output\nI,,O\n');
  assert.ok(alpaca?.kind === 'completion' && alpaca.prompt === 'I' && alpaca.rawPrompt.startsWith('Below is'));
});

test('property: what is written by the rules of RFC 4180 is read back, with its lines', async () => {
  const field = fc.stringMatching(/^[a-z,"\n é;]{1,12}$/).filter((text) => text.trim() !== '');
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 6 }), async (rows) => {
      const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;
      const lines = rows.map(([a, b]) => `${quoted(a)},${quoted(b)}`);
      let line = 2;
      const expected = rows.map(([a, b], i) => {
        const at = line;
        line += lines[i]!.split('\n').length;
        return [at, `${a}\n`, b];
      });
      assert.deepEqual(pairs(await read('property.csv', ['text,category', ...lines].join('\n'), CLASSES)), expected);
    }),
    { numRuns: 60 },
  );
});

test('property: a damaged file is read or refused with its name and a line, nothing else', async () => {
  const good = 'text,category\n"a, b",x\nc,y\n"d ""e""",z\n';
  const edit = fc.record({ at: fc.nat(good.length - 1), text: fc.constantFrom('"', ',', '\n', '', 'x', '\u0000') });
  await fc.assert(
    fc.asyncProperty(edit, fc.boolean(), async ({ at, text }, insert) => {
      const damaged = good.slice(0, at) + text + good.slice(at + (insert ? 0 : 1));
      try {
        for (const { kind, origin } of await read('damaged.csv', damaged, CLASSES)) {
          assert.equal(kind, 'completion');
          assert.ok(origin.line >= 2 && origin.line <= damaged.split('\n').length);
        }
      } catch (error) {
        assert.ok(error instanceof DistillockError, String(error));
        assert.match(error.message, /damaged\.csv:[1-9]/);
      }
    }),
    { numRuns: 200 },
  );
});

test('errors name file, line and column', async () => {
  const cases: readonly (readonly [string, ReadOptions, string, RegExp])[] = [
    ['text,category\na,x\nb,y,z\n', CLASSES, 'dataset-csv', /bad\.csv:3: has 3 fields, the first line 2/],
    ['text,category\n\na\n', CLASSES, 'dataset-csv', /bad\.csv:3: has 1 fields/],
    ['text,category\n"a,x\nb,y\n', CLASSES, 'dataset-csv', /bad\.csv:\d: has a quote that is never closed/],
    ['text,category\n"a"b,x\n', CLASSES, 'dataset-csv', /bad\.csv:2: has text after a closing quote/],
    ['text,category\na"b,x\n', CLASSES, 'dataset-csv', /bad\.csv:2: has a quote inside a field/],
    ['text;category\na;x\n', CLASSES, 'dataset-csv', /bad\.csv:1: .*";" divide the columns, set dataset_delimiter/],
    ['text\tcategory\na\tx\n', CLASSES, 'dataset-csv', /bad\.csv:1: .*tabs divide/],
    ['text,text\na,x\n', CLASSES, 'dataset-csv', /bad\.csv:1: has two columns named "text"/],
    ['text,\na,x\n', CLASSES, 'dataset-csv', /bad\.csv:1: has no name for column 2/],
    ['text,category\n', CLASSES, 'dataset-empty', /bad\.csv/],
    ['', CLASSES, 'dataset-empty', /bad\.csv/],
    [
      'text,intent\na,x\n',
      CLASSES,
      'dataset-field',
      /bad\.csv:2: field "category" is missing; the line has "text", "intent"/,
    ],
    ['text,category\na,x\nb,\n', CLASSES, 'dataset-field', /bad\.csv:3: field "category" is empty/],
    ['a,b\nc,d\n', {}, 'dataset-format', /bad\.csv:2: has the fields "a", "b".*dataset_label_field/],
    [
      'text,category\na,x\n',
      { ...CLASSES, promptTemplate: '{body}: {text}' },
      'dataset-field',
      /bad\.csv:2: field "body" is missing/,
    ],
  ];
  for (const [content, options, code, message] of cases)
    await assert.rejects(read('bad.csv', content, options), { code, message }, content);
  const latin = Buffer.concat([Buffer.from('text,category\n'), Buffer.from([0xff]), Buffer.from(',x\n')]);
  await assert.rejects(read('latin.csv', latin, CLASSES), { code: 'not-utf8', message: /byte 0xff at offset 14/ });
  await assert.rejects(readDataset(join(folder, 'absent.csv'), CLASSES), { code: 'file-missing' });
});

test('settings that contradict one another are refused before the file is read', async () => {
  const cases: readonly (readonly [ReadOptions, RegExp])[] = [
    [{ labelField: 'c' }, /needs the text that it labels/],
    [{ labelField: 'c', completionField: 'd', textField: 't' }, /both name the answer/],
    [{ promptField: 'p', textField: 't' }, /both name the text/],
    [{ completionField: 'c', textField: 't' }, /has no completion/],
    [{ promptTemplate: '{t}' }, /needs the column of the answer/],
    [{ promptTemplate: '{t}', labelField: 'c', textField: 'u' }, /does not use the column "u"/],
    [{ promptTemplate: '{t} {c}', labelField: 'c' }, /the answer that is to be learnt/],
    [{ format: 'alpaca', labelField: 'c', textField: 't' }, /has no meaning for dataset_format alpaca/],
    [{ format: 'text', labelField: 'c', textField: 't' }, /dataset_format text/],
  ];
  for (const [options, message] of cases)
    await assert.rejects(readDataset(join(folder, 'absent.csv'), options), { code: 'setting-columns', message });
  for (const promptTemplate of ['no column', 'a {', 'a } b', '{ }', '{a{b}}'])
    await assert.rejects(readDataset('absent.csv', { promptTemplate, labelField: 'c' }), { code: 'setting-template' });
  const braces = await read('braces.csv', 'text,category\na,x\n', { ...CLASSES, promptTemplate: '{{{text}}} = ' });
  assert.deepEqual(pairs(braces), [[2, '{a} = ', 'x']]);
  await assert.rejects(read('lines.jsonl', '{"text":"a"}', { delimiter: ';' }), {
    message: /dataset_delimiter is for CSV/,
  });
});
