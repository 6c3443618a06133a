// use_peft, lora_… and modules_to_save of a configuration: which adapters they mean for a student. Names and defaults are TRL's and PEFT's.
// Zone: edge. Adapters that a student has already keep their own rank and targets: settings that say otherwise are refused.
import type { DecoderConfig } from '../model/config.js';
import { adaptableNames, adapterTensors, type LoraConfig, savedTensors } from '../model/lora.js';
import { MalformedError, UnsupportedError } from '../trusted/wire/errors.js';
import type { Config, ConfigName } from './config-keys.js';
import type { Student } from './train/student.js';

const SETTINGS = ['lora_r', 'lora_alpha', 'lora_target_modules', 'modules_to_save', 'use_rslora'] as const;
/** TRL's. */
const DEFAULT_RANK = 16;
const DEFAULT_ALPHA = 32;

/**
 * Checks that the settings of LoRA make sense together. Throws MalformedError('setting-unused') for one without use_peft, and
 * UnsupportedError('setting-unsupported') for dropout.
 */
export function settleLora(config: Config, whereGiven: (name: ConfigName) => string | null): Config {
  if (config.lora_dropout !== 0) {
    const message = `${whereGiven('lora_dropout')}: lora_dropout ${config.lora_dropout} is not possible: a training step has no random masks, so that a resumed run is the same bit for bit; leave it out (weight_decay regularises adapters too)`;
    throw new UnsupportedError('setting-unsupported', message, { name: 'lora_dropout' });
  }
  if (config.use_peft || config.adapter_name_or_path !== null) return config;
  for (const name of SETTINGS) {
    if (config[name] === null) continue;
    const message = `${whereGiven(name)}: ${name} means nothing without adapters; set use_peft: true, or leave it out`;
    throw new MalformedError('setting-unused', message, { name });
  }
  return config;
}

/** New adapters for a student of this shape. Throws what `adapterTensors` and `savedTensors` throw. */
export function loraFor(config: Config, student: DecoderConfig): LoraConfig {
  const targets = config.lora_target_modules ?? ['all-linear'];
  const lora: LoraConfig = {
    r: config.lora_r ?? DEFAULT_RANK,
    lora_alpha: config.lora_alpha ?? DEFAULT_ALPHA,
    target_modules: targets.join() === 'all-linear' ? adaptableNames(student) : targets,
    modules_to_save: config.modules_to_save ?? [],
    use_rslora: config.use_rslora ?? false,
  };
  savedTensors(student, lora);
  if (adapterTensors(student, lora).length > 0) return lora;
  const message = 'no layer is left for adapters: modules_to_save has all of lora_target_modules';
  throw new MalformedError('lora-target', message, {});
}

/** A student that has adapters already, for training on. Throws MalformedError('lora-mismatch') naming a setting that says otherwise. */
export function continuedAdapters(config: Config, student: Student, lora: LoraConfig): Student {
  const own: Readonly<Record<(typeof SETTINGS)[number], unknown>> = {
    lora_r: lora.r,
    lora_alpha: lora.lora_alpha,
    lora_target_modules: lora.target_modules,
    modules_to_save: lora.modules_to_save ?? [],
    use_rslora: lora.use_rslora ?? false,
  };
  for (const name of SETTINGS) {
    if (config[name] === null || sorted(config[name]) === sorted(own[name])) continue;
    const message = `${name} is ${String(config[name])}, the adapters to train on have ${String(own[name])}; leave it out, or start without adapter_name_or_path`;
    throw new MalformedError('lora-mismatch', message, { name });
  }
  return student;
}

function sorted(value: unknown): string {
  return JSON.stringify(Array.isArray(value) ? [...value].sort() : value);
}
