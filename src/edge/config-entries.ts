// The `name: value` lines of a config file, with their line numbers. `dataset:` and `peft_config:` may be mappings with their settings inside.
// Zone: edge. Inside them names are short (`path`, `text_column`); outside each is the setting that a flag has.
import { isMap, isScalar, type LineCounter, type YAMLMap } from 'yaml';
import { MalformedError } from '../trusted/wire/errors.js';
import type { ConfigName } from './config-keys.js';

export interface ConfigEntry {
  readonly name: string;
  readonly value: unknown;
  readonly line: number;
}

/** Settings by their names inside `dataset:`; columns are called so or by the word that TRL and axolotl use. */
const DATASET: Readonly<Record<string, ConfigName>> = {
  path: 'dataset',
  format: 'dataset_format',
  prompt_column: 'dataset_prompt_field',
  prompt_field: 'dataset_prompt_field',
  completion_column: 'dataset_completion_field',
  completion_field: 'dataset_completion_field',
  text_column: 'dataset_text_field',
  text_field: 'dataset_text_field',
  label_column: 'dataset_label_field',
  label_field: 'dataset_label_field',
  prompt_template: 'dataset_prompt_template',
  delimiter: 'dataset_delimiter',
  max_samples: 'max_samples',
  eval_path: 'eval_dataset',
  validation_split: 'validation_split',
};

/** Settings by their names in PEFT's LoraConfig. */
const PEFT_CONFIG: Readonly<Record<string, ConfigName>> = {
  r: 'lora_r',
  lora_alpha: 'lora_alpha',
  lora_dropout: 'lora_dropout',
  target_modules: 'lora_target_modules',
  modules_to_save: 'modules_to_save',
  use_rslora: 'use_rslora',
};

/** Throws MalformedError('setting-unknown') for a name inside one of the mappings that is none of its settings. */
export function* entriesOf(map: YAMLMap, file: string, lines: LineCounter): Generator<ConfigEntry> {
  for (const { key, value } of map.items) {
    const line = isScalar(key) && key.range ? lines.linePos(key.range[0]).line : 1;
    const name = isScalar(key) ? String(key.value) : '?';
    if (name === 'dataset' && isMap(value)) {
      for (const inner of entriesOf(value, file, lines))
        yield { ...inner, name: settingOf(inner, name, DATASET, file) };
      continue;
    }
    if (name === 'peft_config' && isMap(value)) {
      if (!map.has('use_peft')) yield { name: 'use_peft', value: true, line };
      for (const inner of entriesOf(value, file, lines))
        yield { ...inner, name: settingOf(inner, name, PEFT_CONFIG, file) };
      continue;
    }
    yield { name, line, value: isScalar(value) ? value.value : (value as { toJSON(): unknown } | null)?.toJSON() };
  }
}

function settingOf(
  { name, line }: ConfigEntry,
  mapping: string,
  inside: Readonly<Record<string, ConfigName>>,
  file: string,
): ConfigName {
  if (Object.hasOwn(inside, name)) return inside[name]!;
  const known = Object.keys(inside).filter((other) => !other.endsWith('_field'));
  const message = `${file}:${line}: ${mapping} has no "${name}"; inside it are ${known.join(', ')}`;
  throw new MalformedError('setting-unknown', message, { file, line, name });
}
