// Every setting of a distillation: name, range, default, meaning. Names are TRL's where TRL has one.
// Zone: edge. This table is the only place: checks, flags and --help are made from it.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { LOSSES, type LossName } from '../graph/ops/divergence.js';
import { PLATFORMS, type Platform } from './enclave/choice.js';

export interface Config {
  readonly model_name_or_path: string;
  readonly teacher_model_name_or_path: string;
  readonly dataset: string;
  readonly output_dir: string;
  readonly owner_key: string | null;
  readonly enclave_state_dir: string;
  readonly tee_memory: number;
  readonly platform: Platform;
  readonly enclave_socket: string | null;
  readonly gramine_app: string | null;
  readonly licence_service: string | null;
  readonly activation_code: string | null;
  readonly service_ca: string | null;
  readonly insecure_http: boolean;
  readonly cache_dir: string;
  readonly dataset_format: 'auto' | 'messages' | 'completion' | 'text' | 'alpaca' | 'plain' | 'csv' | 'parquet';
  readonly dataset_prompt_field: string | null;
  readonly dataset_completion_field: string | null;
  readonly dataset_text_field: string | null;
  readonly dataset_label_field: string | null;
  readonly dataset_prompt_template: string | null;
  readonly dataset_delimiter: string | null;
  readonly max_samples: number | null;
  readonly eval_dataset: string | null;
  readonly validation_split: number;
  readonly apply_chat_template: boolean;
  readonly append_eos: boolean;
  readonly max_length: number;
  readonly excess_length_strategy: 'auto' | 'truncate' | 'drop' | 'raise';
  readonly packing: boolean;
  readonly group_by_length: boolean;
  readonly completion_only_loss: boolean | null;
  readonly assistant_only_loss: boolean;
  readonly kd_ratio: number;
  readonly kd_temperature: number;
  readonly loss: LossName;
  /** Null unless `loss` uses it; the same for skew_alpha. */
  readonly beta: number | null;
  readonly skew_alpha: number | null;
  readonly loss_top_k: number;
  readonly loss_add_tail: boolean;
  readonly cache_precision: 'float16' | 'float32';
  readonly num_train_epochs: number;
  readonly max_steps: number | null;
  readonly per_device_train_batch_size: number;
  readonly per_device_eval_batch_size: number | null;
  readonly gradient_accumulation_steps: number;
  readonly learning_rate: number;
  readonly lr_scheduler_type: 'cosine' | 'linear' | 'constant';
  readonly warmup_ratio: number;
  readonly min_lr_ratio: number;
  readonly weight_decay: number;
  readonly adam_beta1: number;
  readonly adam_beta2: number;
  readonly adam_epsilon: number;
  readonly max_grad_norm: number;
  readonly use_peft: boolean;
  readonly adapter_name_or_path: string | null;
  /** Null unless use_peft is; the same for the other settings of LoRA. */
  readonly lora_r: number | null;
  readonly lora_alpha: number | null;
  readonly lora_dropout: number;
  readonly lora_target_modules: readonly string[] | null;
  readonly modules_to_save: readonly string[] | null;
  readonly use_rslora: boolean | null;
  readonly seed: number;
  readonly logging_steps: number;
  readonly eval_steps: number;
  readonly save_steps: number;
  readonly save_total_limit: number;
  readonly resume_from_checkpoint: boolean | string;
  readonly threads: number | null;
}

export type ConfigName = keyof Config;

/** What a setting may be, and how a flag's text becomes it. */
interface Kind<T> {
  readonly schema: z.ZodType<T>;
  /** `value`: a YAML scalar; `path`: relative to the config file or the working folder; `model`: a path that exists, or a hub id. */
  readonly reads: 'text' | 'value' | 'path' | 'model';
  /** What --help shows in place of the value. */
  readonly placeholder: string;
}

export interface ConfigKey<T = unknown> extends Kind<T> {
  readonly description: string;
  /** Absent: the setting must be given. */
  readonly fallback?: T;
}

const path: Kind<string> = { schema: z.string().min(1), reads: 'path', placeholder: 'PATH' };
const text: Kind<string> = { schema: z.string().min(1), reads: 'text', placeholder: 'NAME' };
const delimiter: Kind<string> = {
  schema: z
    .string()
    .length(1)
    .refine((character) => !/["\r\n]/.test(character), 'not a quote or a line break'),
  reads: 'text',
  placeholder: 'CHARACTER',
};
const flag: Kind<boolean> = { schema: z.boolean(), reads: 'value', placeholder: 'true|false' };
const count: Kind<number> = number(z.int().min(1).max(1e9), 'N');
const fromZero: Kind<number> = number(
  z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
  'N',
);
const share: Kind<number> = number(z.number().min(0).max(1), 'X');
const below1: Kind<number> = number(z.number().min(0).lt(1), 'X');
const positive: Kind<number> = number(z.number().positive().max(1e9), 'X');
const notNegative: Kind<number> = number(z.number().min(0).max(1e9), 'X');
/** TRL writes -1 for no limit. */
const noLimit: z.ZodType<null> = z.literal(-1).transform(() => null);
const limit: Kind<number | null> = number(z.union([count.schema, noLimit, z.null()]), 'N');
const resume: Kind<boolean | string> = {
  schema: z.union([z.boolean(), z.string().min(1)]),
  reads: 'path',
  placeholder: 'true|DIR',
};

/** A list, or as a flag names with commas between them. */
const names: Kind<readonly string[]> = {
  schema: z
    .union([
      z.string().transform((text) => text.split(/[\s,]+/).filter((name) => name !== '')),
      z.array(z.string().min(1)),
    ])
    .refine((list) => list.length > 0, 'name at least one module') as unknown as z.ZodType<readonly string[]>,
  reads: 'text',
  placeholder: 'NAMES',
};

type Keys<Names extends ConfigName> = { readonly [Name in Names]: ConfigKey<Config[Name]> };

export const CONFIG_KEYS: Keys<ConfigName> = {
  model_name_or_path: {
    ...required(path, 'student: a checkpoint, or a folder with only config.json to start at random'),
    reads: 'model',
  },
  teacher_model_name_or_path: required(path, "teacher: the owner's locked bundle"),
  dataset: required(path, 'training data: jsonl, a JSON array, CSV, parquet or plain text'),
  output_dir: required(path, 'where student, checkpoints, metrics.jsonl and report.html go'),
  owner_key: optional(orNull(path), null, "owner's public key (default: the one that `distillock enclave` pinned)"),
  enclave_state_dir: optional(
    path,
    home('state', 'enclave'),
    "the enclave's sealed state: it keeps the budget between runs",
  ),
  tee_memory: optional(count, 4096, 'MB of trusted memory for the parts that the enclave holds, beyond its runtime'),
  platform: optional(choice(...PLATFORMS), 'simulated', 'what the enclave runs on'),
  enclave_socket: optional(
    orNull(path),
    null,
    'socket of an enclave that runs already, in a confidential VM (tdx, snp)',
  ),
  gramine_app: optional(orNull(path), null, "sgx: path of Gramine's manifest, without .manifest.sgx"),
  licence_service: optional(
    orNull(text),
    null,
    "address of the owner's licence service (default: the one that granted before)",
  ),
  activation_code: optional(
    orNull(text),
    null,
    'code from the owner for a licence, used once (or in DISTILLOCK_ACTIVATION_CODE)',
  ),
  service_ca: optional(orNull(path), null, 'PEM certificates that alone vouch for the licence service'),
  insecure_http: optional(flag, false, 'allow plain HTTP to a licence service on another machine'),
  cache_dir: optional(path, home('cache', 'teacher'), 'what the teacher released, so that no text is charged twice'),

  dataset_format: optional(
    choice('auto', 'messages', 'completion', 'text', 'alpaca', 'plain', 'csv', 'parquet'),
    'auto',
    'what the records are, or what kind of file holds them',
  ),
  dataset_prompt_field: optional(orNull(text), null, 'column that holds the prompt'),
  dataset_completion_field: optional(orNull(text), null, 'column that holds the completion'),
  dataset_text_field: optional(orNull(text), null, 'column that holds the text'),
  dataset_label_field: optional(
    orNull(text),
    null,
    'column that holds the class of a text: the completion that classification learns',
  ),
  dataset_prompt_template: optional(
    orNull({ ...text, placeholder: 'TEXT' }),
    null,
    'prompt made of columns in braces, such as "Message: {text} Intent: "',
  ),
  dataset_delimiter: optional(
    orNull(delimiter),
    null,
    'between the columns of CSV (default: comma; in .tsv files tab)',
  ),
  max_samples: optional(limit, null, 'use only the first N records'),
  eval_dataset: optional(
    orNull(path),
    null,
    'validation data; without it validation_split is taken from the training data',
  ),
  validation_split: optional(below1, 0.05, 'share of the records kept for validation'),
  apply_chat_template: optional(
    flag,
    true,
    "format prompts and completions with the tokenizer's chat template if it has one",
  ),
  append_eos: optional(flag, true, 'end texts and completions with the end-of-sequence token'),
  max_length: optional(
    number(
      z
        .int()
        .min(8)
        .max(2 ** 20),
      'N',
    ),
    512,
    'tokens in a row',
  ),
  excess_length_strategy: optional(
    choice('auto', 'truncate', 'drop', 'raise'),
    'auto',
    'records longer than max_length: auto divides texts and cuts the rest; or cut, leave out, stop',
  ),
  packing: optional(flag, true, 'several examples in a row, without attention between them'),
  group_by_length: optional(
    flag,
    false,
    'without packing: batches of examples of similar length, in at most four widths',
  ),
  completion_only_loss: optional(
    orNull(flag),
    null,
    'prompts do not count in the loss (default: true for prompt/completion data)',
  ),
  assistant_only_loss: optional(flag, false, "only the assistant's turns count in the loss"),

  kd_ratio: optional(share, 0.9, 'loss = (1 - r) × cross-entropy + r × divergence from the teacher'),
  kd_temperature: optional(positive, 1, 'temperature of teacher and student in the divergence'),
  loss: optional(
    choice(...(Object.keys(LOSSES) as [LossName, ...LossName[]])),
    'forward_kl',
    'divergence from the teacher; every one is multiplied by the square of kd_temperature',
  ),
  beta: optional(
    orNull(share),
    null,
    'jsd: 0 is forward KL, 1 reverse KL, between them generalized Jensen-Shannon (default: 0.5); given alone it means loss: jsd',
  ),
  skew_alpha: optional(
    orNull(number(z.number().gt(0).lt(1), 'X')),
    null,
    'skew_kl, skew_reverse_kl: share of the other distribution that is mixed in (default: 0.1)',
  ),
  loss_top_k: optional(count, 64, 'log-probabilities per token that the teacher releases'),
  loss_add_tail: optional(flag, true, 'treat the mass outside the top k as one more token'),
  cache_precision: optional(choice('float16', 'float32'), 'float16', 'precision of cached log-probabilities'),

  num_train_epochs: optional(positive, 3, 'passes over the data'),
  max_steps: optional(limit, null, 'stop after N optimiser steps, whatever num_train_epochs says'),
  per_device_train_batch_size: optional(count, 4, 'rows in a micro-batch'),
  per_device_eval_batch_size: optional(limit, null, 'rows in an evaluation batch (default: as in training)'),
  gradient_accumulation_steps: optional(count, 1, 'micro-batches in an optimiser step'),
  learning_rate: optional(positive, 5e-4, 'highest learning rate'),
  lr_scheduler_type: optional(choice('cosine', 'linear', 'constant'), 'cosine', 'how the learning rate falls'),
  warmup_ratio: optional(below1, 0.03, 'share of the steps in which the learning rate rises'),
  min_lr_ratio: optional(share, 0.1, 'learning rate at the end, as a share of the highest'),
  weight_decay: optional(notNegative, 0.01, 'AdamW weight decay; norms and biases have none'),
  adam_beta1: optional(below1, 0.9, 'AdamW decay of the mean'),
  adam_beta2: optional(below1, 0.999, 'AdamW decay of the variance'),
  adam_epsilon: optional(positive, 1e-8, 'AdamW epsilon'),
  max_grad_norm: optional(notNegative, 1, 'clip the gradient to this norm; 0 does not clip'),

  use_peft: optional(flag, false, 'train low-rank adapters (LoRA); the weights of the student stay as they are'),
  adapter_name_or_path: optional(
    orNull(path),
    null,
    'PEFT folder: adapters that the student has, to train on or to measure',
  ),
  lora_r: optional(orNull(count), null, 'rank of the adapters (default: 16)'),
  lora_alpha: optional(orNull(positive), null, 'the adapters count lora_alpha / lora_r times (default: 32)'),
  lora_dropout: optional(share, 0, 'only 0 is possible'),
  lora_target_modules: optional(
    orNull(names),
    null,
    'layers that get adapters, by the end of their name, such as q_proj,v_proj (default: all-linear, those of the blocks)',
  ),
  modules_to_save: optional(orNull(names), null, 'modules trained in full beside the adapters, such as lm_head'),
  use_rslora: optional(orNull(flag), null, 'rank-stabilised: lora_alpha / √lora_r times'),

  seed: optional(fromZero, 42, 'initialisation, data order and split'),
  logging_steps: optional(count, 10, 'optimiser steps between lines of metrics.jsonl'),
  eval_steps: optional(count, 100, 'optimiser steps between evaluations'),
  save_steps: optional(count, 200, 'optimiser steps between checkpoints'),
  save_total_limit: optional(count, 2, 'checkpoints to keep'),
  resume_from_checkpoint: optional(
    resume,
    false,
    "true: go on from output_dir's last checkpoint; or a checkpoint's folder",
  ),
  threads: optional(limit, null, 'CPU threads (default: one for each core)'),
};

/** Headings of --help and the setting that opens each. */
export const CONFIG_SECTIONS: readonly (readonly [title: string, first: ConfigName])[] = [
  ['Files', 'model_name_or_path'],
  ['Data', 'dataset_format'],
  ['Teacher and loss', 'kd_ratio'],
  ['Training', 'num_train_epochs'],
  ['Adapters', 'use_peft'],
  ['Run', 'seed'],
];

function required<T>(kind: Kind<T>, description: string): ConfigKey<T> {
  return { ...kind, description };
}

function optional<T>(kind: Kind<T>, fallback: NoInfer<T>, description: string): ConfigKey<T> {
  return { ...kind, fallback, description };
}

function number<T>(schema: z.ZodType<T>, placeholder: string): Kind<T> {
  return { schema, reads: 'value', placeholder };
}

function orNull<T>(kind: Kind<T>): Kind<T | null> {
  return { ...kind, schema: kind.schema.nullable() };
}

function choice<const T extends string>(...values: readonly [T, ...T[]]): Kind<T> {
  return { schema: z.enum(values) as unknown as z.ZodType<T>, reads: 'text', placeholder: values.join('|') };
}

function home(kind: 'state' | 'cache', name: string): string {
  const set = process.env[kind === 'state' ? 'XDG_STATE_HOME' : 'XDG_CACHE_HOME'];
  const base = set !== undefined && set !== '' ? set : join(homedir(), kind === 'state' ? '.local/state' : '.cache');
  return join(base, 'distillock', name);
}
