// Configuration: defaults, flags over file, paths, and errors that say which line and what was meant.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, test } from 'node:test';
import {
  CONFIG_KEYS,
  CONFIG_SECTIONS,
  type Config,
  type ConfigFlags,
  createConfig,
  loadConfig,
} from '../../src/edge/config.js';

const folder = mkdtempSync(join(tmpdir(), 'distillock-config-'));
after(() => rmSync(folder, { recursive: true }));

const NEEDED = `model_name_or_path: ./student
teacher_model_name_or_path: model.lock
dataset: data/train.jsonl
output_dir: out
owner_key: owner.pub
`;
let files = 0;
async function load(yaml: string, flags: ConfigFlags = {}): Promise<Config> {
  const file = join(folder, `${files++}.yaml`);
  writeFileSync(file, yaml);
  return loadConfig(file, flags);
}

test('defaults fill in what is not given, and every default passes its own check', async () => {
  const config = await load(NEEDED);
  assert.equal(config.loss_top_k, 64);
  assert.equal(config.completion_only_loss, null);
  for (const [name, key] of Object.entries(CONFIG_KEYS)) {
    if ('fallback' in key) assert.ok(key.schema.safeParse(key.fallback).success, name);
    assert.ok(key.description.length > 10 && key.placeholder !== '', name);
  }
  for (const [, first] of CONFIG_SECTIONS) assert.ok(first in CONFIG_KEYS);
});

test('paths start at the config file; those of flags at the working folder; hub ids stay', async () => {
  const config = await load(NEEDED, { output_dir: 'elsewhere', cache_dir: '~/c' });
  assert.equal(config.dataset, join(folder, 'data/train.jsonl'));
  assert.equal(config.model_name_or_path, join(folder, 'student'));
  assert.equal(config.output_dir, resolve('elsewhere'));
  assert.equal(config.cache_dir, join(homedir(), 'c'));
  const hub = NEEDED.replace('./student', 'HuggingFaceTB/SmolLM2-135M');
  assert.equal((await load(hub)).model_name_or_path, 'HuggingFaceTB/SmolLM2-135M');
  mkdirSync(join(folder, 'HuggingFaceTB/SmolLM2-135M'), { recursive: true });
  assert.equal((await load(hub)).model_name_or_path, join(folder, 'HuggingFaceTB/SmolLM2-135M'));
});

test('flags win, with dashes or underscores, and are read by type', async () => {
  const flags = {
    'learning-rate': '1e-3',
    seed: '7',
    packing: 'false',
    assistant_only_loss: true,
    max_steps: '-1',
    dataset_text_field: '12',
    resume_from_checkpoint: 'true',
  };
  const config = await load(`${NEEDED}learning_rate: 1e-5\nseed: 1\n`, flags);
  assert.equal(config.learning_rate, 1e-3);
  assert.equal(config.seed, 7);
  assert.equal(config.packing, false);
  assert.equal(config.assistant_only_loss, true);
  assert.equal(config.max_steps, null);
  assert.equal(config.dataset_text_field, '12');
  assert.equal(config.resume_from_checkpoint, true);
  assert.equal((await load(NEEDED, { 'resume-from-checkpoint': 'out/c1' })).resume_from_checkpoint, resolve('out/c1'));
});

test('dataset may be a mapping with its settings inside; flags still win', async () => {
  const yaml = `${NEEDED.replace('dataset: data/train.jsonl\n', '')}dataset:
  path: banking77.csv
  format: csv
  text_column: text
  label_column: category
  prompt_template: "Message: {text}\\nIntent: "
  eval_path: held.csv
`;
  const config = await load(yaml, { dataset_label_field: 'intent' });
  assert.equal(config.dataset, join(folder, 'banking77.csv'));
  assert.equal(config.eval_dataset, join(folder, 'held.csv'));
  assert.equal(config.dataset_format, 'csv');
  assert.equal(config.dataset_text_field, 'text');
  assert.equal(config.dataset_label_field, 'intent');
  assert.equal(config.dataset_prompt_template, 'Message: {text}\nIntent: ');
  const refused = async (more: string, code: string, message: RegExp): Promise<void> =>
    assert.rejects(load(yaml + more), { code, message });
  await refused('  colour: red\n', 'setting-unknown', /\.yaml:12: dataset has no "colour"; inside it are path, format/);
  await refused(
    'dataset_text_field: body\n',
    'setting-twice',
    /\.yaml:12: dataset_text_field is set twice, here and at .*\.yaml:8/,
  );
  await assert.rejects(load(yaml.replace('  path: banking77.csv\n', '')), {
    code: 'setting-missing',
    message: /dataset/,
  });
  await assert.rejects(load(yaml.replace('format: csv', 'format: xml')), {
    code: 'setting-value',
    message: /\.yaml:7/,
  });
  await assert.rejects(load(NEEDED, { dataset_delimiter: '"' }), { code: 'setting-value', message: /not a quote/ });
  await assert.rejects(load(NEEDED, { dataset_delimiter: ';;' }), { code: 'setting-value' });
  assert.equal((await load(`${NEEDED}dataset_delimiter: "\\t"\n`)).dataset_delimiter, '\t');
});

test('the configurations of the examples hold', async () => {
  for (const name of ['banking77', 'gsm8k', 'stories']) {
    const config = await loadConfig(join('examples', name, 'config.yaml'), {});
    assert.ok(existsSync(config.model_name_or_path), name);
  }
  assert.equal((await loadConfig('examples/banking77/config.yaml', {})).dataset_label_field, 'category');
});

test('without a file everything may come from flags', async () => {
  const flags = {
    model_name_or_path: 's',
    teacher_model_name_or_path: 't',
    dataset: 'd',
    output_dir: 'o',
    owner_key: 'k',
  };
  assert.equal((await loadConfig(undefined, flags)).dataset, resolve('d'));
  assert.deepEqual(createConfig(flags), await loadConfig(undefined, flags));
});

test('adapters: flat settings, PEFT names inside peft_config, and flags are the same', async () => {
  const flat = await load(
    `${NEEDED}use_peft: true\nlora_r: 8\nlora_alpha: 16\nlora_target_modules: [q_proj, v_proj]\nuse_rslora: true\n`,
  );
  const inside = await load(
    `${NEEDED}peft_config:\n  r: 8\n  lora_alpha: 16\n  target_modules: [q_proj, v_proj]\n  use_rslora: true\n`,
  );
  assert.deepEqual(inside, flat);
  const flags = { lora_r: '8', 'lora-alpha': '16', lora_target_modules: 'q_proj,v_proj', use_rslora: true };
  assert.deepEqual(await load(`${NEEDED}use_peft: true\n`, flags), flat);
  assert.deepEqual(flat.lora_target_modules, ['q_proj', 'v_proj']);
});

test('problems name file, line and setting', async () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    [
      `${NEEDED}learning_rat: 1`,
      'setting-unknown',
      /\.yaml:6: there is no setting "learning_rat"; did you mean "learning_rate"\?/,
    ],
    [`${NEEDED}\n# c\nkd_alpha: 1`, 'setting-unknown', /:8: .*"kd_ratio"/],
    [`${NEEDED}license: x`, 'setting-unknown', /:6: license is no setting: .*distillock enclave/],
    [`${NEEDED}lmbda: 0.5`, 'setting-unsupported', /:6: lmbda is not possible yet/],
    [`${NEEDED}lora_r: 8`, 'setting-unused', /:6: lora_r means nothing without adapters; set use_peft: true/],
    [`${NEEDED}use_peft: true\nlora_dropout: 0.1`, 'setting-unsupported', /:7: lora_dropout 0.1 .*resumed run/],
    [`${NEEDED}use_peft: true\nlora_r: 0`, 'setting-value', /:7: lora_r is 0/],
    [`${NEEDED}use_peft: true\nlora_alpha: 0`, 'setting-value', /:7: lora_alpha is 0/],
    [`${NEEDED}use_peft: true\nlora_target_modules: []`, 'setting-value', /:7: lora_target_modules is \[\]: name at/],
    [
      `${NEEDED}peft_config:\n  rank: 8`,
      'setting-unknown',
      /:7: peft_config has no "rank"; inside it are r, lora_alpha/,
    ],
    [`${NEEDED}loss_add_tail: false`, 'setting-unsupported', /:6: loss_add_tail false/],
    [`${NEEDED}seed: many`, 'setting-value', /:6: seed is "many"/],
    [`${NEEDED}kd_ratio: 2`, 'setting-value', /:6: kd_ratio is 2/],
    [`${NEEDED}max_length: 4`, 'setting-value', /max_length/],
    [`${NEEDED}lr_scheduler_type: cosin`, 'setting-value', /cosine/],
    [`${NEEDED}seed: 1\nseed: 2`, 'setting-yaml', /:7: not YAML/],
    [`${NEEDED}seed: [1`, 'setting-yaml', /:[67]: not YAML/],
    ['- a\n- b', 'setting-yaml', /name: value/],
    ['seed: 1', 'setting-missing', /model_name_or_path, teacher_model_name_or_path, dataset, output_dir;/],
    ['', 'setting-missing', /output_dir/],
  ];
  for (const [yaml, code, message] of cases) await assert.rejects(load(yaml), { code, message }, yaml);
  await assert.rejects(load(NEEDED, { 'learning-rat': '1' }), {
    code: 'setting-unknown',
    message: /^--learning-rat: /,
  });
  await assert.rejects(load(NEEDED, { seed: 'x' }), { code: 'setting-value', message: /^--seed: seed is "x"/ });
  await assert.rejects(loadConfig(join(folder, 'absent.yaml'), {}), { code: 'file-missing' });
});

test('loss: one parameter each, filled in; beta alone means jsd, as in TRL', async () => {
  const settled = async (yaml: string, flags: ConfigFlags = {}) => {
    const { loss, beta, skew_alpha } = await load(`${NEEDED}${yaml}`, flags);
    return [loss, beta, skew_alpha];
  };
  assert.deepEqual(await settled(''), ['forward_kl', null, null]);
  assert.deepEqual(await settled('loss: tvd'), ['tvd', null, null]);
  assert.deepEqual(await settled('loss: jsd'), ['jsd', 0.5, null]);
  assert.deepEqual(await settled('loss: jsd\nbeta: 0'), ['jsd', 0, null]);
  assert.deepEqual(await settled('beta: 1'), ['jsd', 1, null]);
  assert.deepEqual(await settled('', { beta: '0.9' }), ['jsd', 0.9, null]);
  assert.deepEqual(await settled('loss: skew_kl'), ['skew_kl', null, 0.1]);
  assert.deepEqual(await settled('loss: skew_reverse_kl\nskew_alpha: 0.3'), ['skew_reverse_kl', null, 0.3]);
  const jsd = await load(`${NEEDED}loss: jsd`);
  assert.deepEqual(createConfig(jsd), jsd, 'a whole configuration can be given again');
});

test('loss: a parameter out of range or of another loss is refused by name', async () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['loss: kl', 'setting-value', /:6: loss is "kl".*forward_kl.*skew_reverse_kl/],
    ['beta: 1.01', 'setting-value', /:6: beta is 1.01/],
    ['beta: -0.1', 'setting-value', /:6: beta is -0.1/],
    ['beta: .nan', 'setting-value', /:6: beta is/],
    ['loss: skew_kl\nskew_alpha: 0', 'setting-value', /:7: skew_alpha is 0/],
    ['loss: skew_kl\nskew_alpha: 1', 'setting-value', /:7: skew_alpha is 1/],
    [
      'skew_alpha: 0.1',
      'setting-unused',
      /:6: skew_alpha is no parameter of loss forward_kl; .*skew_kl or skew_reverse_kl$/,
    ],
    [
      'loss: forward_kl\nbeta: 0.5',
      'setting-unused',
      /:7: beta is no parameter of loss forward_kl; .*set loss to jsd$/,
    ],
    ['beta: 0.5\nloss: tvd', 'setting-unused', /:6: beta is no parameter of loss tvd/],
    ['beta: 0.5\nskew_alpha: 0.1', 'setting-unused', /:7: skew_alpha is no parameter of loss jsd/],
    ['kd_loss_fn: jsd', 'setting-unknown', /"loss"/],
  ];
  for (const [yaml, code, message] of cases) await assert.rejects(load(`${NEEDED}${yaml}`), { code, message }, yaml);
  await assert.rejects(load(NEEDED, { loss: 'reverse_kl', beta: '1' }), {
    code: 'setting-unused',
    message: /^--beta: beta/,
  });
});
