// PEFT directories: adapter_config.json and adapter_model.safetensors, read and written as PEFT does (huggingface/peft, LoraConfig).
// Zone: edge and owner. What changes the result and is not computed here (DoRA, ranks by pattern, biases) is refused, never left out.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { DecoderConfig } from '../config.js';
import { writeFileAtomic } from '../files.js';
import { adaptable, adapterNames, adapterTensors, hasAdapter, type LoraConfig, PREFIX, savedTensors } from '../lora.js';
import type { TensorSource } from '../tensors.js';
import { readWhole } from './file-reads.js';
import { JsonFields, parseJsonObject } from './json-fields.js';
import { openSafetensors } from './safetensors.js';
import { type TensorToWrite, writeSafetensors } from './safetensors-writer.js';

export const ADAPTER_CONFIG = 'adapter_config.json';
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

export interface Adapter {
  readonly folder: string;
  readonly lora: LoraConfig;
  /** Path or hub id of the checkpoint that it was trained on. */
  readonly base: string;
  /** Under PEFT's names. */
  readonly tensors: TensorSource;
}

/** Whether `path` is a folder with adapters, and no model of its own beside them. */
export async function isAdapterFolder(path: string): Promise<boolean> {
  const there = (name: string): Promise<boolean> =>
    stat(join(path, name)).then(
      (found) => found.isFile(),
      () => false,
    );
  return (await there(ADAPTER_CONFIG)) && !(await there('config.json'));
}

/** The checkpoint that adapter_config.json names. */
export async function readAdapterBase(folder: string): Promise<string> {
  const file = join(folder, ADAPTER_CONFIG);
  const base = new JsonFields(parseJsonObject(await readWhole(file), file), file).text('base_model_name_or_path', '');
  if (base === '')
    throw new MalformedError(
      'adapter-base',
      `${file} names no base_model_name_or_path; give the checkpoint that the adapter was trained on`,
      { file },
    );
  const beside = join(folder, base);
  const exists = (path: string): Promise<boolean> => stat(path).then(Boolean, () => false);
  return !(await exists(base)) && (await exists(beside)) ? beside : base;
}

/**
 * Opens the adapters in `folder` for a base of this shape. Throws MalformedError for a base whose names or shapes they do not fit, and
 * UnsupportedError for what LoRA alone does not compute. Close `tensors` when done.
 */
export async function openAdapter(folder: string, config: DecoderConfig, base: string): Promise<Adapter> {
  const file = join(folder, ADAPTER_CONFIG);
  const fields = new JsonFields(parseJsonObject(await readWhole(file), file), file);
  refuseOthers(fields);
  checkBaseName(fields, base);
  const weights = join(folder, ADAPTER_WEIGHTS);
  if (!(await stat(weights).catch(() => null)) && (await stat(join(folder, 'adapter_model.bin')).catch(() => null)))
    throw new UnsupportedError(
      'format-unsupported',
      `${folder} holds adapter_model.bin, which can run code when it is loaded; save it as ${ADAPTER_WEIGHTS} first`,
      { file: folder },
    );
  const tensors = await openSafetensors(weights);
  try {
    const lora: LoraConfig = {
      r: fields.count('r'),
      lora_alpha: fields.positive('lora_alpha'),
      target_modules: targetsIn(tensors, fields, config, weights),
      modules_to_save: listIn(fields, 'modules_to_save') ?? [],
      use_rslora: fields.flag('use_rslora', false),
    };
    checkAdapterTensors(tensors, config, lora, weights);
    return { folder, lora, base, tensors };
  } catch (error) {
    await tensors.close();
    throw error;
  }
}

/** Writes a folder that PEFT loads: weights first, the configuration last, each file whole or not at all. */
export async function saveAdapter(
  folder: string,
  { r, lora_alpha, target_modules, modules_to_save = [], use_rslora = false }: LoraConfig,
  base: string,
  tensors: readonly TensorToWrite[],
): Promise<void> {
  await writeSafetensors(join(folder, ADAPTER_WEIGHTS), tensors, 'F32');
  const json = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base,
    r,
    lora_alpha,
    lora_dropout: 0,
    use_rslora,
    target_modules,
    modules_to_save: modules_to_save.length === 0 ? null : modules_to_save,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
  };
  await writeFileAtomic(join(folder, ADAPTER_CONFIG), `${JSON.stringify(json, null, 2)}\n`);
}

const OFF: Readonly<Record<string, unknown>> = { peft_type: 'LORA', bias: 'none' };
const MUST_BE_OFF = [
  ...['peft_type', 'bias', 'use_dora', 'use_qalora', 'lora_bias', 'fan_in_fan_out', 'rank_pattern', 'alpha_pattern'],
  ...['layer_replication', 'trainable_token_indices', 'target_parameters', 'alora_invocation_tokens', 'arrow_config'],
];

function refuseOthers(fields: JsonFields): void {
  for (const key of MUST_BE_OFF) {
    const value = fields.get(key) ?? OFF[key];
    const off = value === undefined || value === false || value === OFF[key] || JSON.stringify(value).length === 2;
    if (off) continue;
    const message = `${fields.file}: ${key} ${JSON.stringify(value)} is not possible yet; merge this adapter with PEFT (merge_and_unload) and use the merged model`;
    throw new UnsupportedError('adapter-unsupported', message, { file: fields.file, key });
  }
}

// A base may have moved, but it keeps its name: the last part of its path, or of its hub id.
function checkBaseName(fields: JsonFields, base: string): void {
  const named = fields.text('base_model_name_or_path', '');
  if (named === '' || base === '' || nameOf(named) === nameOf(base)) return;
  const message = `${fields.file}: the adapter was trained on ${named}, not on ${base}; give that base, or if it is the same model write its new name there`;
  throw new MalformedError('adapter-base', message, { file: fields.file, named, base });
}

function nameOf(model: string): string {
  const snapshot = /models--[^/]+?--([^/]+)\/snapshots\//.exec(model);
  const name = snapshot?.[1] ?? model.replace(/\/+$/, '').replace(/^.*[/\\]/, '');
  return name.toLowerCase();
}

function listIn(fields: JsonFields, key: string): string[] | null {
  const value = fields.get(key);
  if (value === undefined || typeof value === 'string') return null;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  throw fields.wrong(key, 'a list of module names');
}

// target_modules may be a list, a pattern or `all-linear`, narrowed by other keys: the tensors say what came of it.
function targetsIn(tensors: TensorSource, fields: JsonFields, config: DecoderConfig, file: string): string[] {
  const modules = adaptable(config).map(({ module }) => module);
  const having = modules.filter((module) => tensors.has(adapterNames(module).a));
  const listed = listIn(fields, 'target_modules');
  const modules_to_save = listIn(fields, 'modules_to_save') ?? [];
  if (listed !== null) {
    const lora = { r: 1, lora_alpha: 1, target_modules: listed, modules_to_save };
    if (having.length === modules.filter((module) => hasAdapter(module, lora)).length) return listed;
  }
  if (having.length > 0) return having;
  const first = tensors.list()[0]?.name ?? 'no tensor at all';
  const message = `${file} holds no adapter of a module of this base (it holds ${first}, …): it belongs to another model`;
  throw new MalformedError('adapter-mismatch', message, { file });
}

function checkAdapterTensors(tensors: TensorSource, config: DecoderConfig, lora: LoraConfig, file: string): void {
  const saved = savedTensors(config, lora).map(({ name, shape }) => ({ name: `${PREFIX}${name}`, shape }));
  const expected = new Map([...adapterTensors(config, lora), ...saved].map(({ name, shape }) => [name, shape]));
  for (const { name } of tensors.list()) {
    if (expected.has(name)) continue;
    const message = `${file}: tensor "${name}" fits no module of this base; the adapter belongs to another model, or adapts a layer outside the blocks`;
    throw new MalformedError('adapter-mismatch', message, { file, tensor: name });
  }
  for (const [name, shape] of expected) {
    const found = tensors.has(name) ? tensors.info(name).shape : null;
    if (found !== null && found.join() === shape.join()) continue;
    const has = found === null ? 'is missing' : `has shape [${found.join(', ')}]`;
    const message = `${file}: tensor "${name}" ${has}, this base and adapter_config.json demand [${shape.join(', ')}]: the adapter belongs to another model`;
    throw new MalformedError('adapter-mismatch', message, { file, tensor: name });
  }
}
