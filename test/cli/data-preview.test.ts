// distillock data preview: marks or colours what counts, counts over all records, reads what distill would read.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { describeData, describeSmallness } from '../../src/cli/describe-data.js';
import { runProgram } from '../../src/cli/program.js';
import { renderPieces } from '../../src/cli/run-data-preview.js';
import { GROUPS, VERBS } from '../../src/cli/verbs/table.js';
import { piecesOf } from '../../src/edge/data/pieces.js';
import { openTokenizer } from '../../src/model/tokenizer.js';
import { captured } from './captured.js';
import { cli, failure, json, STORIES, start } from './command-line.js';

const BANKING = 'test/fixtures/data/banking77.csv';
const CLASSES = ['--dataset_text_field', 'text', '--dataset_label_field', 'category'] as const;
const folder = mkdtempSync(join(tmpdir(), 'distillock-preview-'));
after(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
}

/** stories260K's tokenizer with a chat template. */
function chatModel(): string {
  const model = join(folder, 'chat');
  cpSync(STORIES, model, { recursive: true });
  const template =
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}";
  writeFileSync(join(model, 'chat_template.jinja'), template);
  return model;
}

test('piped: what counts stands between marks, and the counts are over all records', async () => {
  const { code, out, err } = await cli('data', 'preview', BANKING, ...CLASSES, '--tokenizer', STORIES, '--limit', '2');
  assert.equal(code, 0, err);
  assert.equal(err, '');
  assert.ok(!out.includes('\u001b'));
  assert.match(out, /banking77\.csv: 201 records, tokenizer of .*stories260k, no chat template/);
  assert.match(
    out,
    /── record 1, line 2, completion, \d+ tokens, \d+ count\n.*I am still waiting on my card\?\n⟦card_arrival<\/s>⟧\n/,
  );
  assert.match(out, /── record 2, line \d+/);
  assert.doesNotMatch(out, /── record 3/);
  assert.match(out, /all records: 201 examples, [\d,]+ tokens, [\d,]+ count in the loss/);
  assert.match(out, /longest record: \d+ tokens\n/);
  assert.match(out, /rows of an epoch: \d+ of 512 tokens at most, packed, \d+\.\d % padding/);
});

test('on a terminal: two colours instead of marks, each ended with its line', async () => {
  const stdout = captured(true);
  const stderr = captured(true);
  const table = { verbs: VERBS, groups: GROUPS };
  const argv = ['data', 'preview', BANKING, ...CLASSES, '--tokenizer', STORIES, '--limit', '1'];
  const code = await runProgram(argv, { version: '0', ...table, stdout, stderr, env: {}, exit: () => {} });
  assert.equal(code, 0, stderr.text);
  assert.doesNotMatch(stdout.text, /[⟦⟧]/);
  // ESC is written as ~, so that the patterns can be read.
  const shown = stdout.text.replaceAll('\u001b', '~');
  assert.match(shown, /~\[32mcard_arrival<\/s>~\[39m/);
  assert.match(shown, /~\[2m.*I am still waiting on my card\?~\[22m/);
  assert.match(stripVTControlCharacters(stdout.text), /This counts in the loss, this does not\./);
  const count = (line: string, pattern: RegExp): number => line.match(pattern)?.length ?? 0;
  for (const line of shown.split('\n')) assert.equal(count(line, /~\[(1|2|32)m/g), count(line, /~\[(22|39)m/g), line);
});

test('JSON: every token with its text and whether it counts; texts join to what is trained on', async () => {
  const result = await json('data', 'preview', BANKING, ...CLASSES, '--tokenizer', STORIES, '--limit', '4');
  assert.equal(result.records, 201);
  assert.equal(result.report.examples, 201);
  assert.equal(result.samples.length, 4);
  const tokenizer = await openTokenizer(STORIES);
  for (const { examples, length, fate } of result.samples) {
    assert.equal(fate, 'whole');
    assert.equal(examples.length, 1);
    assert.equal(examples[0].length, length);
    const ids = examples[0].map(({ id }: { id: number }) => id);
    const shown = examples[0].map(({ text }: { text: string }) => text).join('');
    assert.equal(
      shown,
      piecesOf({ inputIds: Int32Array.from(ids), lossMask: new Uint8Array(ids.length) }, tokenizer)
        .map(({ text }) => text)
        .join(''),
    );
    assert.match(shown, /card/);
  }
});

test('conversations: the template is shown, the settings decide what counts', async () => {
  const chat = write(
    'chat.jsonl',
    '{"messages":[{"role":"user","content":"Hi there"},{"role":"assistant","content":"Hello"}]}\n',
  );
  const model = chatModel();
  const all = await cli('data', 'preview', chat, '--tokenizer', model);
  assert.match(all.out, /⟦\[?user\] Hi there\n\[assistant\] Hello\s*⟧/);
  const answers = await cli('data', 'preview', chat, '--tokenizer', model, '--assistant_only_loss', 'true');
  assert.match(answers.out, /\[user\] Hi there\n\[assistant\]\s?⟦\s?Hello\s*⟧/);
  assert.equal((await failure('data', 'preview', chat, '--tokenizer', STORIES)).code, 'dataset-mismatch');
  const untokenised = await cli('data', 'preview', chat, '--assistant_only_loss', 'true');
  assert.match(untokenised.out, /user: Hi there\nassistant: ⟦Hello⟧\n/);
  assert.match(untokenised.out, /Without --tokenizer/);
});

test('a config is previewed as distill would read it; flags win', async () => {
  write('stories.txt', `${'Once upon a time there was a cat. '.repeat(20)}\n<|endoftext|>\nThe end of it.\n`);
  const config = write(
    'run.yaml',
    `model_name_or_path: x\nteacher_model_name_or_path: ${join(process.cwd(), STORIES)}\ndataset: stories.txt\noutput_dir: out\nmax_length: 64\n`,
  );
  const { out } = await cli('data', 'preview', config);
  assert.match(out, /record 1, line 1, text, \d+ tokens, \d+ count, divided into \d examples/);
  assert.match(out, /— continued in example 2 —/);
  assert.match(
    out,
    /all records: 1 of 2 records are longer than max_length 64 \(the longest has \d+ tokens\): 1 divided; 0 tokens lost/,
  );
  const dropped = await json('data', 'preview', config, '--excess_length_strategy', 'drop');
  assert.equal(dropped.samples[0].fate, 'left-out');
  assert.deepEqual(dropped.samples[0].examples, []);
  assert.equal(dropped.report.leftOut, 1);
  assert.equal(
    (await failure('data', 'preview', config, '--excess_length_strategy', 'raise')).code,
    'example-too-long',
  );
});

test('data cannot steer the terminal', () => {
  const pieces = [
    { id: 1, text: 'a\u001b[2Jb\u0007\r\u009b', counts: false },
    { id: 2, text: '\u202ec\n\td', counts: true },
  ];
  assert.equal(renderPieces(pieces, false), 'a\\u001b[2Jb\\u0007\\u000d\\u009b⟦\\u202ec\n\td⟧');
  const shown = stripVTControlCharacters(renderPieces(pieces, true));
  for (const character of ['\u001b', '\u0007', '\r', '\u009b', '\u202e']) assert.ok(!shown.includes(character));
});

test('bad calls say what to give', async () => {
  assert.match((await failure('data', 'preview', BANKING, '--tokenizer', 'nowhere')).message, /no such folder or file/);
  assert.equal((await failure('data', 'preview')).exitCode, 2);
  assert.equal((await failure('data', 'preview', BANKING, '--limit', '0')).exitCode, 2);
  const half = await failure('data', 'preview', BANKING, '--dataset_label_field', 'category', '--tokenizer', STORIES);
  assert.equal(half.code, 'setting-columns');
  assert.equal(half.exitCode, 2);
  assert.equal((await failure('data', 'preview', join(folder, 'absent.csv'))).code, 'file-missing');
  const { out } = await cli('data', 'preview', '--help');
  for (const part of ['Examples:', 'distillock data preview config.yaml', '--tokenizer', '--dataset_prompt_template'])
    assert.ok(out.includes(part), part);
  assert.match((await cli('data')).out, /preview/);
});

test('as a program', async () => {
  const { output, ended } = start(
    process.cwd(),
    'data',
    'preview',
    'test/fixtures/data/clinc150.parquet',
    '--dataset_text_field',
    'text',
    '--dataset_label_field',
    'intent',
    '--limit',
    '1',
  );
  assert.equal(await ended, 0, output());
  assert.match(output(), /clinc150\.parquet: 150 records\n/);
  assert.match(output(), /⟦[a-z_]+⟧/);
});

test('what was too long and what is too little is said in words', () => {
  const report = {
    records: 10,
    examples: 7,
    tokens: 70,
    targets: 60,
    divided: 1,
    truncated: 2,
    dropped: 2,
    leftOut: 1,
    tooLong: 5,
    longest: 99,
    lostTokens: 44,
  };
  assert.deepEqual(describeData('text', report, { max_length: 16 }), [
    'text: 7 examples, 70 tokens, 60 count in the loss',
    'text: 5 of 10 records are longer than max_length 16 (the longest has 99 tokens): 1 divided, 2 cut, 1 left out, 1 left out because the part that fits has nothing to learn; 44 tokens lost',
    'text: records left out because nothing in them counts in the loss: 1',
  ]);
  const stats = { examples: 3, tokens: 9, rows: 3, batchesPerEpoch: 1, paddingShare: 0.5 };
  const of = (size: number, steps: number): string | null =>
    describeSmallness(stats, { per_device_train_batch_size: size, gradient_accumulation_steps: steps });
  assert.equal(of(3, 1), null);
  assert.match(of(8, 1)!, /fills 3 of the 8 rows of a batch/);
  assert.match(of(3, 4)!, /each step passes over it 4 times/);
});
