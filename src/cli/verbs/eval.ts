// distillock eval: how close a student is to its teacher on held-out text: KL, agreement, negative log-likelihood.
import type { Command } from 'commander';
import type { ConfigFlags, ConfigName } from '../../edge/config.js';
import { addConfigFlags, givenFlags } from '../config-flags.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface EvalVerbOptions {
  readonly file: string | undefined;
  readonly flags: ConfigFlags;
}

const SETTINGS: readonly ConfigName[] = [
  ...([
    'model_name_or_path',
    'adapter_name_or_path',
    'teacher_model_name_or_path',
    'dataset',
    'output_dir',
    'owner_key',
  ] as const),
  ...([
    'enclave_state_dir',
    'tee_memory',
    'platform',
    'enclave_socket',
    'gramine_app',
    'cache_dir',
    'dataset_format',
    'dataset_prompt_field',
    'dataset_completion_field',
  ] as const),
  ...([
    'dataset_text_field',
    'dataset_label_field',
    'dataset_prompt_template',
    'dataset_delimiter',
    'max_samples',
    'eval_dataset',
    'validation_split',
    'apply_chat_template',
    'append_eos',
  ] as const),
  ...([
    'max_length',
    'excess_length_strategy',
    'packing',
    'completion_only_loss',
    'assistant_only_loss',
    'kd_temperature',
    'loss_top_k',
  ] as const),
  ...(['cache_precision', 'per_device_train_batch_size', 'per_device_eval_batch_size', 'seed', 'threads'] as const),
];

export const evalHelp: VerbHelp<EvalVerbOptions> = {
  name: 'eval',
  summary: 'measure a student against its teacher on held-out text (edge)',
  examples: [
    ['distillock eval config.yaml', "the student in output_dir on the run's validation data"],
    [
      'distillock eval config.yaml --model_name_or_path other-student --eval_dataset test.jsonl',
      'another student, other text',
    ],
    ['distillock eval config.yaml --model_name_or_path base --adapter lora-out', 'a base with adapters'],
  ],
  define(command: Command): void {
    addConfigFlags(command, SETTINGS);
    command.option('--adapter <dir>', 'the same as --adapter_name_or_path');
  },
  parse(command: Command): EvalVerbOptions {
    const { adapter } = command.opts<{ readonly adapter: string | undefined }>();
    const named = adapter === undefined ? {} : { adapter_name_or_path: adapter };
    return { file: command.args[0], flags: { ...givenFlags(command), ...named } };
  },
};

/** What --json prints; nats per token, held out. */
export interface EvalResult {
  readonly student: string;
  readonly kl: number;
  readonly nll: number;
  /** Share of target tokens where student and teacher agree on the most likely one. */
  readonly agreement: number;
  readonly targets: number;
  /** A student that knows how often each token occurs in the training text, and nothing else. */
  readonly frequencyOnly: { readonly kl: number };
  /** Positions charged now; those in the cache cost nothing. */
  readonly charged: number;
  readonly budgetLeft: number | null;
}

// `eval` is a reserved word.
export const evalVerb: Verb<EvalVerbOptions> = {
  ...evalHelp,
  async run({ file, flags }: EvalVerbOptions, context: Context): Promise<EvalResult> {
    const { runEval } = await import('../run-eval.js');
    return runEval(file, flags, context);
  },
};
