// Every verb's options: defaults, required ones, values out of range, and help that names every setting.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command } from 'commander';
import { runProgram } from '../../src/cli/program.js';
import { type AnyVerb, anyVerb, type VerbHelp } from '../../src/cli/verb.js';
import { demoHelp } from '../../src/cli/verbs/demo.js';
import { destroyHelp } from '../../src/cli/verbs/destroy.js';
import { distillHelp } from '../../src/cli/verbs/distill.js';
import { enclaveHelp } from '../../src/cli/verbs/enclave.js';
import { evalHelp } from '../../src/cli/verbs/eval.js';
import { generateHelp } from '../../src/cli/verbs/generate.js';
import { grantHelp } from '../../src/cli/verbs/grant.js';
import { inspectHelp } from '../../src/cli/verbs/inspect.js';
import { lockHelp } from '../../src/cli/verbs/lock.js';
import { GROUPS, VERBS } from '../../src/cli/verbs/table.js';
import { verifyLockHelp } from '../../src/cli/verbs/verify-lock.js';
import { CONFIG_KEYS, loadConfig } from '../../src/edge/config.js';
import { captured } from './captured.js';

const echo = <Options>(help: VerbHelp<Options>): AnyVerb => anyVerb({ ...help, run: async (options) => options });
const ALL: readonly AnyVerb[] = [
  ...[echo(lockHelp), echo(grantHelp), echo(enclaveHelp), echo(distillHelp), echo(evalHelp)],
  ...[echo(generateHelp), echo(inspectHelp), echo(verifyLockHelp), echo(destroyHelp), echo(demoHelp)],
];
async function parse(line: string): Promise<{ code: number; result: Record<string, unknown>; err: string }> {
  const stdout = captured();
  const stderr = captured();
  const verbs = ALL.map((verb) => ({ name: verb.name, summary: '', load: async () => verb }));
  const argv = [...line.split(' '), '--json'];
  const code = await runProgram(argv, { version: '0', verbs, stdout, stderr, env: {}, exit: () => {} });
  return { code, result: stdout.text === '' ? {} : JSON.parse(stdout.text), err: stderr.text };
}

test('lock, grant, enclave, inspect', async () => {
  assert.deepEqual((await parse('lock --model m --out o --keys k')).result, {
    model: 'm',
    out: 'o',
    scheme: 'rotation',
    quantize: 'none',
    calibrationTokens: 8192,
    keys: 'k',
    encryptKeys: false,
    publicKey: 'k.pub',
    placement: 'auto',
    acceptRecorder: false,
    teeMemoryMb: 4096,
  });
  const verify = await parse('verify-lock b --model m --keys k --max-tokens 64 --top_k 8');
  assert.deepEqual(verify.result, {
    bundle: 'b',
    model: 'm',
    keys: 'k',
    text: null,
    maxTokens: 64,
    topK: 8,
    tolerance: 1e-3,
  });
  for (const bad of ['', ' --keys k --tolerance -1', ' --keys k --tolerance x', ' --keys k --max_tokens 1'])
    assert.equal((await parse(`verify-lock b --model m${bad}`)).code, 2, bad);
  const grant = 'grant --bundle b --keys k --evidence e --out o';
  const { result } = await parse(`${grant} --budget 1_000_000 --expires 2099-01-31`);
  assert.equal(result.budgetTokens, 1_000_000);
  assert.equal(result.expires, '2099-01-31T00:00:00.000Z');
  assert.deepEqual(result.temperature, { min: 0.5, max: 4 });
  assert.equal(result.topK, 64);
  for (const bad of [
    '--budget 0',
    '--budget x',
    '--budget 1 --expires soon',
    '--budget 1 --precision int4',
    '--budget 1 --min-temperature 5',
    '',
  ]) {
    assert.equal((await parse(`${grant} ${bad}`.trim())).code, 2, bad);
  }
  assert.deepEqual((await parse('inspect b --owner-key k')).result, { bundle: 'b', ownerKey: 'k' });
  assert.equal(
    (await parse('enclave --bundle b --owner-key k --evidence e')).result.enclaveStateDir,
    CONFIG_KEYS.enclave_state_dir.fallback,
  );
  const enclave = await parse('enclave --bundle b --evidence x/alice.evidence');
  const { evidence, licence } = enclave.result.exchange as Record<string, string>;
  assert.deepEqual([evidence, licence], ['x/alice.evidence', 'x/alice.licence']);
  assert.equal((await parse('enclave --bundle b')).result.exchange, null);
  for (const bad of ['--licence l', `--nonce ${'00'.repeat(32)}`, '--evidence e --nonce 00']) {
    assert.equal((await parse(`enclave --bundle b ${bad}`)).code, 2, bad);
  }
  assert.equal((await parse('lock --model m --out o --keys k --scheme caesar')).code, 2);
  assert.equal((await parse('lock --model m --out o --keys k --quantize int4')).result.quantize, 'int4');
  const own = await parse(
    'lock --model m --out o --keys k --quantize int8 --calibration t.jsonl --calibration_tokens 4096',
  );
  assert.deepEqual([own.result.calibration, own.result.calibrationTokens], ['t.jsonl', 4096]);
  assert.equal((await parse('lock --model m --out o --keys k --calibration_tokens 9')).code, 2);
  assert.equal((await parse('lock --model m --out o --keys k --quantize int3')).code, 2);
});

test('generate, destroy, demo', async () => {
  const { result } = await parse('generate --model m --prompt hi --no-apply-chat-template --top-k 5');
  assert.deepEqual(
    [result.prompt, result.applyChatTemplate, result.maxNewTokens, result.temperature, result.topK, result.topP],
    ['hi', false, 256, 0, 5, 1],
  );
  assert.equal((await parse('generate --model m --top_p 2')).code, 2);
  const destroy = 'destroy --bundle b --owner_key k --receipt r';
  assert.match((await parse(destroy)).err, /add --yes/);
  assert.equal((await parse(`${destroy} --yes`)).result.deleteBundle, false);
  assert.equal((await parse('demo')).result.out, 'demo-out');
});

test('distill: every setting is a flag that reaches the configuration', async () => {
  const line =
    'distill --model_name_or_path s --teacher-model-name-or-path t --dataset d --output_dir o --learning-rate 1e-3 --packing false --assistant_only_loss';
  const { result, err } = await parse(line);
  assert.equal(err, '');
  const config = await loadConfig(undefined, result.flags as Record<string, string>);
  assert.deepEqual([config.learning_rate, config.packing, config.assistant_only_loss], [1e-3, false, true]);
  assert.equal((await parse('distill c.yaml --seed 3')).result.file, 'c.yaml');
  assert.match((await parse('distill --learning_rat 1')).err, /learning_rate/);
  const command = new Command('distill');
  distillHelp.define(command);
  const help = command.helpInformation();
  for (const name of Object.keys(CONFIG_KEYS)) assert.ok(help.includes(`--${name} `), name);
  assert.match(help, /Teacher and loss:\n +--kd_ratio <X>/);
});

test('eval takes its settings only, and tasks, models and a baseline', async () => {
  assert.deepEqual((await parse('eval c.yaml --max_length 128')).result, {
    file: 'c.yaml',
    flags: { max_length: '128' },
    tasks: ['text'],
    models: ['student', 'teacher'],
    limit: null,
    predictions: null,
  });
  assert.equal((await parse('eval c.yaml --learning_rate 1')).code, 2);
  const { result } = await parse('eval c.yaml --tasks text,gsm8k=a.jsonl --baseline b --limit 5 --predictions p.jsonl');
  assert.deepEqual(
    [result.tasks, result.models],
    [
      ['text', 'gsm8k=a.jsonl'],
      ['student', 'teacher', 'baseline'],
    ],
  );
  assert.deepEqual([result.baseline, result.limit, result.predictions], ['b', 5, 'p.jsonl']);
  assert.deepEqual((await parse('eval c.yaml --models student')).result.models, ['student']);
  for (const bad of ['--models pupil', '--models baseline', '--limit 0', '--tasks ,'])
    assert.equal((await parse(`eval c.yaml ${bad}`)).code, 2, bad);
});

test('every verb of the table is what its line says, has an example that starts with its name, and a group if two words', async () => {
  for (const { name, summary, load } of VERBS) {
    const verb = await load();
    assert.deepEqual([verb.name, verb.summary], [name, summary]);
    const { examples } = verb;
    assert.ok(examples.length > 0 && examples.every(([line]) => line.includes(`distillock ${name}`)), name);
    const words = name.split(' ');
    assert.ok(words.length === 1 || GROUPS.some((group) => group.name === words[0]), name);
  }
  assert.equal(new Set(VERBS.map(({ name }) => name)).size, VERBS.length);
});
