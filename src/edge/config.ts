// Config file and flags → one checked configuration. Flags win; an unknown name is an error with the nearest known one.
// Zone: edge. Every problem names the setting and where it was given: file and line, or the flag.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { distance } from 'fastest-levenshtein';
import { isMap, LineCounter, parseDocument, parse as parseYaml } from 'yaml';
import { describeFileError } from '../model/files.js';
import { MalformedError, UnsupportedError } from '../trusted/wire/errors.js';
import { entriesOf } from './config-entries.js';
import { CONFIG_KEYS, type Config, type ConfigName } from './config-keys.js';
import { settleLora } from './lora-settings.js';
import { settleLoss } from './loss-settings.js';

export { CONFIG_KEYS, CONFIG_SECTIONS, type Config, type ConfigKey, type ConfigName } from './config-keys.js';

/** Flags by name (`learning_rate` or `learning-rate`), as text; true stands for a flag without a value. */
export type ConfigFlags = Readonly<Record<string, string | boolean | undefined>>;

/** What the same thing is called elsewhere. */
const ELSEWHERE: Readonly<Record<string, ConfigName>> = {
  base_model: 'model_name_or_path',
  model: 'model_name_or_path',
  student: 'model_name_or_path',
  teacher: 'teacher_model_name_or_path',
  bundle: 'teacher_model_name_or_path',
  kd_online_topk: 'loss_top_k',
  gkd_logits_topk: 'loss_top_k',
  top_k: 'loss_top_k',
  kd_alpha: 'kd_ratio',
  alpha: 'kd_ratio',
  kd_beta: 'beta',
  kd_loss_fn: 'loss',
  kd_loss: 'loss',
  loss_type: 'loss',
  divergence: 'loss',
  skew_lambda: 'skew_alpha',
  temperature: 'kd_temperature',
  micro_batch_size: 'per_device_train_batch_size',
  batch_size: 'per_device_train_batch_size',
  sequence_len: 'max_length',
  max_seq_length: 'max_length',
  iters: 'max_steps',
  lr: 'learning_rate',
  train_on_inputs: 'completion_only_loss',
  sample_packing: 'packing',
  val_set_size: 'validation_split',
  datasets: 'dataset',
  train_path: 'dataset',
  eval_path: 'eval_dataset',
  test_datasets: 'eval_dataset',
  text_column: 'dataset_text_field',
  label_column: 'dataset_label_field',
  prompt_template: 'dataset_prompt_template',
  adapter: 'adapter_name_or_path',
  adapter_path: 'adapter_name_or_path',
  resume_adapter_file: 'adapter_name_or_path',
  lora_model_dir: 'adapter_name_or_path',
  lora: 'use_peft',
  fine_tune_type: 'use_peft',
  rank: 'lora_r',
  r: 'lora_r',
  lora_rank: 'lora_r',
  dropout: 'lora_dropout',
  target_modules: 'lora_target_modules',
  lora_target_linear: 'lora_target_modules',
  lora_modules_to_save: 'modules_to_save',
  truncation: 'excess_length_strategy',
};

/** Known from TRL, not possible yet: better said than guessed at. */
const NOT_YET: ReadonlySet<string> = new Set([
  ...['lmbda', 'seq_kd', 'max_completion_length', 'use_dora', 'load_in_4bit', 'load_in_8bit'],
  ...['report_to', 'gradient_checkpointing', 'bf16', 'fp16'],
]);

interface Given {
  readonly value: unknown;
  /** `config.yaml:7` or `--seed`. */
  readonly where: string;
  readonly details: Readonly<Record<string, string | number>>;
  /** Folder that relative paths start from. */
  readonly folder: string;
}

/** Throws MalformedError (codes `setting-…`), UnsupportedError, or EnvironmentError when the file cannot be read. */
export async function loadConfig(file: string | undefined, flags: ConfigFlags): Promise<Config> {
  const given = file === undefined ? new Map<ConfigName, Given>() : await readConfigFile(file);
  for (const [flag, value] of Object.entries(flags)) {
    if (value === undefined) continue;
    const name = knownName(flag.replaceAll('-', '_'), `--${flag}`, { flag });
    const read = readsScalar(name, value) ? scalar(value) : value;
    given.set(name, { value: read, where: `--${flag}`, details: { flag }, folder: process.cwd() });
  }
  return checked(given);
}

/** A configuration made by a program; paths are relative to the working folder. */
export function createConfig(values: Partial<Config>): Config {
  const given = new Map<ConfigName, Given>();
  for (const [key, value] of Object.entries(values)) {
    given.set(knownName(key, key, {}), { value, where: key, details: {}, folder: process.cwd() });
  }
  return checked(given);
}

async function readConfigFile(file: string): Promise<Map<ConfigName, Given>> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problem = document.errors[0];
  if (problem !== undefined) {
    const line = lines.linePos(problem.pos[0]).line;
    throw new MalformedError('setting-yaml', `${file}:${line}: not YAML: ${problem.message}`, { file, line });
  }
  const given = new Map<ConfigName, Given>();
  if (document.contents === null) return given;
  if (!isMap(document.contents)) {
    throw new MalformedError('setting-yaml', `${file}: a config is a list of "name: value" lines`, { file });
  }
  for (const { name: key, value, line } of entriesOf(document.contents, file, lines)) {
    const where = `${file}:${line}`;
    const details = { file, line };
    const name = knownName(key, where, details);
    if (given.has(name)) {
      const message = `${where}: ${name} is set twice, here and at ${given.get(name)!.where}; leave one out`;
      throw new MalformedError('setting-twice', message, { ...details, name });
    }
    given.set(name, { value, where, details, folder: dirname(resolve(file)) });
  }
  return given;
}

function checked(given: ReadonlyMap<ConfigName, Given>): Config {
  const config: Record<string, unknown> = {};
  const missing: string[] = [];
  for (const name of Object.keys(CONFIG_KEYS) as ConfigName[]) {
    const key = CONFIG_KEYS[name];
    const entry = given.get(name);
    if (entry !== undefined) config[name] = checkedValue(name, entry);
    else if ('fallback' in key) config[name] = key.fallback;
    else missing.push(name);
  }
  if (missing.length > 0) {
    const hint = 'give them in the config file or as flags';
    throw new MalformedError('setting-missing', `missing: ${missing.join(', ')}; ${hint}`, {
      names: missing.join(','),
    });
  }
  if (config.group_by_length === true && config.packing === true) {
    const { where } = given.get('group_by_length')!;
    const message = `${where}: group_by_length needs packing: false; packed rows have hardly any padding to save`;
    throw new MalformedError('setting-value', message, { name: 'group_by_length' });
  }
  refuseUnless(given, 'loss_add_tail', config.loss_add_tail === true, 'true is: without a tail the KL can go negative');
  const whereGiven = (name: ConfigName): string | null => given.get(name)?.where ?? null;
  return settleLora(settleLoss(config as unknown as Config, whereGiven), whereGiven);
}

/** A value that the table allows and this version cannot do: refused, never ignored. */
function refuseUnless(
  given: ReadonlyMap<ConfigName, Given>,
  name: ConfigName,
  possible: boolean,
  instead: string,
): void {
  if (possible) return;
  const { where, value } = given.get(name)!;
  const message = `${where}: ${name} ${String(value)} is not possible yet; ${instead}`;
  throw new UnsupportedError('setting-unsupported', message, { name });
}

function checkedValue(name: ConfigName, { value, where, details, folder }: Given): unknown {
  const { schema, reads } = CONFIG_KEYS[name];
  const result = schema.safeParse(value);
  if (!result.success) {
    const expected = result.error.issues[0]?.message ?? 'not allowed';
    const message = `${where}: ${name} is ${JSON.stringify(value)}: ${expected}`;
    throw new MalformedError('setting-value', message, { ...details, name });
  }
  if (typeof result.data !== 'string' || (reads !== 'path' && reads !== 'model')) return result.data;
  const path =
    result.data === '~' || result.data.startsWith('~/') ? join(homedir(), result.data.slice(1)) : result.data;
  const resolved = resolve(folder, path);
  const isHubId =
    reads === 'model' && /^[\w.-]+\/[\w.-]+$/.test(path) && !path.startsWith('.') && !existsSync(resolved);
  return isHubId ? path : resolved;
}

function knownName(name: string, where: string, details: Readonly<Record<string, string | number>>): ConfigName {
  if (Object.hasOwn(CONFIG_KEYS, name)) return name as ConfigName;
  if (name === 'licence' || name === 'license') {
    const message = `${where}: ${name} is no setting: give the licence once to \`distillock enclave\`, which keeps it`;
    throw new MalformedError('setting-unknown', message, { ...details, name });
  }
  if (NOT_YET.has(name)) {
    throw new UnsupportedError('setting-unsupported', `${where}: ${name} is not possible yet; leave it out`, {
      ...details,
      name,
    });
  }
  const nearest = Object.hasOwn(ELSEWHERE, name) ? ELSEWHERE[name]! : nearestName(name);
  const message = `${where}: there is no setting "${name}"; did you mean "${nearest}"?`;
  throw new MalformedError('setting-unknown', message, { ...details, name, nearest });
}

function nearestName(name: string): ConfigName {
  const names = Object.keys(CONFIG_KEYS) as ConfigName[];
  return names.reduce((best, next) => (distance(name, next) < distance(name, best) ? next : best));
}

/** `resume_from_checkpoint` is a switch or a path, so "true" and "false" are never paths. */
function readsScalar(name: ConfigName, value: string | boolean): boolean {
  const { reads, schema } = CONFIG_KEYS[name];
  return reads === 'value' || ((value === 'true' || value === 'false') && schema.safeParse(true).success);
}

function scalar(value: string | boolean): unknown {
  if (typeof value === 'boolean') return value;
  try {
    return parseYaml(value);
  } catch {
    return value;
  }
}
