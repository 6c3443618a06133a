// Classification out of a CSV file through every verb: what the preview counts is what the run learns from and what is charged.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, license, lockStories, writeRun } from './command-line.js';

test('data preview, distill and eval agree on a CSV file with named columns', async (t) => {
  const folder = await temporaryFolder(t);
  const owned = await lockStories(folder, 'teacher');
  await license(owned, folder);
  const rows = (await readFile('test/fixtures/data/banking77.csv', 'utf8')).split('\n').slice(0, 41);
  await writeFile(join(folder, 'intents.csv'), rows.join('\n'));
  const dataset = {
    path: 'intents.csv',
    format: 'csv',
    text_column: 'text',
    label_column: 'category',
    prompt_template: 'Message: {text}\nIntent: ',
  };
  const settings = { dataset, packing: false, group_by_length: true, max_length: 48, max_steps: 4 };
  const config = await writeRun(folder, owned.bundle, settings);

  const seen = await json('data', 'preview', config);
  assert.equal(seen.records, 40);
  assert.ok(seen.report.tooLong > 0 && seen.report.truncated > 0, 'some records are longer than 48 tokens');
  const run = await cli('distill', config);
  assert.equal(run.code, 0, run.err);
  assert.match(run.err, /training text: \d+ examples, [\d,]+ tokens, [\d,]+ count in the loss/);
  assert.match(
    run.err,
    /training text: \d+ of 32 records are longer than max_length 48 \(the longest has \d+ tokens\)/,
  );
  const { licence } = await json('enclave', '--bundle', owned.bundle, ...owned.state);
  assert.equal(licence.chargedTokens, seen.report.targets);

  const measured = await cli('eval', config);
  assert.equal(measured.code, 0, measured.err);
  assert.match(measured.err, /held-out text: \d+ examples/);
  assert.match(measured.out, /nothing charged/);

  const few = ['--max_samples', '3', '--output_dir', join(folder, 'few')];
  const small = await cli('distill', config, ...few);
  assert.equal(small.code, 0, small.err);
  assert.match(small.err, /fills 2 of the 4 rows of a batch/);
  const refused = await failure(
    'distill',
    config,
    '--output_dir',
    join(folder, 'none'),
    '--dataset_label_field',
    'intent',
  );
  assert.deepEqual([refused.code, refused.exitCode], ['dataset-field', 1]);
  assert.match(refused.message, /intents\.csv:2: field "intent" is missing; the line has "text", "category"/);
});
