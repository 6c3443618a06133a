// Calibration text on the command line: the bundled one by default for int4, own text, none; and what is wrong with a text is said.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, STORIES } from './command-line.js';

test('int4 is rounded on bundled text, unless told otherwise; inspect names the method', async (t) => {
  const folder = await temporaryFolder(t);
  const own = join(folder, 'own.jsonl');
  const line = JSON.stringify({
    text: 'Once upon a time, a small dog and a big cat played in the park all day. '.repeat(20),
  });
  await writeFile(own, `${line}\n`.repeat(8));
  const cases = [
    ['int4', [], /int4 on the accelerator, rounded by GPTQ on 8,192 tokens/],
    ['int4', ['--calibration', 'none'], /int4 on the accelerator, rounded to the nearest value/],
    ['int4', ['--calibration', own, '--calibration_tokens', '1024'], /int4 .* by GPTQ on 1,024 tokens/],
    ['int8', [], /int8 on the accelerator, rounded to the nearest value/],
    ['int8', ['--calibration', own, '--calibration_tokens', '1500'], /int8 .* by GPTQ on 1,280 tokens/],
  ] as const;
  for (const [i, [quantize, options, expected]] of cases.entries()) {
    const [bundle, keys] = [join(folder, `${i}.lock`), join(folder, `${i}.keys`)];
    const how = ['--placement', 'accelerator', '--quantize', quantize, ...options];
    await json('lock', '--model', STORIES, '--out', bundle, '--keys', keys, ...how);
    assert.match((await cli('inspect', bundle)).out, expected);
  }
});

test('text that cannot be used is named before anything is written', async (t) => {
  const folder = await temporaryFolder(t);
  const bundle = join(folder, 'a.lock');
  const texts: readonly (readonly [string, string | Uint8Array, string, RegExp])[] = [
    ['torn.jsonl', '{"text": "one"}\n{"text": \n', 'dataset-json', /torn\.jsonl:2: not JSON/],
    ['fields.jsonl', '{"body": "one"}\n', 'dataset-format', /"body"/],
    ['empty.txt', '', 'dataset-empty', /nothing in it/],
    ['short.txt', 'A short text.', 'calibration-short', /short\.txt has \d+ tokens/],
    ['latin.txt', Uint8Array.of(0x63, 0x61, 0x66, 0xe9, 0x0a), 'not-utf8', /not UTF-8 text/],
    ['table.parquet', 'PAR1', 'dataset-parquet', /cannot be read as parquet \(it has 4 bytes\)/],
    ['table.arrow', 'ARROW1', 'dataset-extension', /jsonl/],
  ];
  const lock = [
    'lock',
    '--model',
    STORIES,
    '--out',
    bundle,
    '--keys',
    join(folder, 'a.keys'),
    '--placement',
    'accelerator',
  ];
  for (const [name, contents, code, message] of texts) {
    const file = join(folder, name);
    await writeFile(file, contents);
    const failed = await failure(...lock, '--quantize', 'int4', '--calibration', file);
    assert.equal(failed.code, code, `${name}: ${failed.message}`);
    assert.match(failed.message, message);
  }
  const missing = await failure(...lock, '--quantize', 'int4', '--calibration', join(folder, 'nowhere.txt'));
  assert.equal(missing.code, 'file-missing');
  const idle = await failure(...lock, '--calibration', join(folder, 'short.txt'));
  assert.equal(idle.code, 'calibration-idle');
  assert.equal(existsSync(bundle), false);
});
