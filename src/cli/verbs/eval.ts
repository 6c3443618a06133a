// distillock eval: a student, its teacher and a baseline in one table: closeness on held-out text, and tasks.
import { type Command, Option } from 'commander';
import type { ConfigFlags, ConfigName } from '../../edge/config.js';
import type { MeasureResult } from '../../edge/evaluate/results.js';
import { TASKS } from '../../edge/evaluate/task.js';
import { addConfigFlags, givenFlags } from '../config-flags.js';
import { UsageError } from '../errors.js';
import { wholeNumber } from '../options.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export const MODELS = ['student', 'teacher', 'baseline'] as const;
export type ModelRole = (typeof MODELS)[number];

export interface EvalVerbOptions {
  readonly file: string | undefined;
  readonly flags: ConfigFlags;
  /** Words as `--tasks` has them. */
  readonly tasks: readonly string[];
  readonly models: readonly ModelRole[];
  /** Another model beside the student. */
  readonly baseline: string | undefined;
  readonly limit: number | null;
  readonly predictions: string | null;
}

interface Raw {
  readonly tasks: readonly string[];
  readonly models: readonly string[] | undefined;
  readonly baseline: string | undefined;
  readonly limit: number | undefined;
  readonly predictions: string | undefined;
  readonly adapter: string | undefined;
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

const list = (text: string): string[] => text.split(',').filter((word) => word !== '');

export const evalHelp: VerbHelp<EvalVerbOptions> = {
  name: 'eval',
  summary: 'measure a student, its teacher and a baseline on held-out text and tasks (edge)',
  examples: [
    ['distillock eval config.yaml', "the student in output_dir on the run's validation data"],
    [
      'distillock eval config.yaml --model_name_or_path other-student --eval_dataset test.jsonl',
      'another student, other text',
    ],
    [
      'distillock eval config.yaml --tasks text,gsm8k=test.jsonl,choice.yaml --baseline start --predictions out.jsonl',
      'tasks too, beside the student before training; every prediction in a file',
    ],
    [
      'distillock eval config.yaml --tasks classification=intents.jsonl --models student',
      'without the teacher: nothing charged',
    ],
    ['distillock eval config.yaml --model_name_or_path base --adapter lora-out', 'a base with adapters'],
  ],
  define(command: Command): void {
    addConfigFlags(command, SETTINGS);
    const group = 'Evaluation:';
    const option = (flags: string, text: string): Option => new Option(flags, text).helpGroup(group);
    const names = Object.entries(TASKS).map(([name, { summary }]) => `${name}=FILE.jsonl (${summary})`);
    const tasks = `text (held-out text: KL, agreement, NLL, perplexity), ${names.join(', ')}, or a task file (.yaml, .json)`;
    command
      .addOption(option('--tasks <list>', tasks).argParser(list).default(['text'], 'text'))
      .addOption(option('--models <list>', `of ${MODELS.join(', ')} (default: all that are given)`).argParser(list))
      .addOption(option('--baseline <dir|file|hub id>', 'another model for the table, with the same tokenizer'))
      .addOption(
        option('--limit <n>', 'first n documents of each task; held-out text is always whole').argParser(
          wholeNumber(1),
        ),
      )
      .addOption(option('--adapter <dir>', 'the same as --adapter_name_or_path'))
      .addOption(option('--predictions <file>', 'write every prediction as a line of JSON'));
  },
  parse(command: Command): EvalVerbOptions {
    const { tasks, models: named, baseline, limit, predictions, adapter } = command.opts<Raw>();
    const unknown = named?.find((model) => !(MODELS as readonly string[]).includes(model));
    if (unknown !== undefined || named?.length === 0)
      throw new UsageError('usage', `--models takes ${MODELS.join(', ')}, not "${unknown ?? ''}"`);
    if (tasks.length === 0) throw new UsageError('usage', '--tasks names no task');
    if (named?.includes('baseline') && baseline === undefined)
      throw new UsageError('usage', '--models names the baseline: say which it is with --baseline');
    const models = MODELS.filter((model) => named?.includes(model) ?? (model !== 'baseline' || baseline !== undefined));
    return {
      file: command.args[0],
      flags: { ...givenFlags(command), ...(adapter === undefined ? {} : { adapter_name_or_path: adapter }) },
      tasks,
      models,
      baseline,
      limit: limit ?? null,
      predictions: predictions ?? null,
    };
  },
};

/** A measure of one model: a value and its 95 % interval over documents. */
export type EvalCell = MeasureResult;

export interface EvalMeasure {
  readonly task: string;
  readonly measure: string;
  readonly documents: number;
  readonly models: Readonly<Partial<Record<ModelRole, EvalCell>>>;
}

/** What --json prints. `kl` to `frequencyOnly` are the student's on held-out text, nats per token; null without the task `text`. */
export interface EvalResult {
  readonly student: string;
  readonly baseline: string | null;
  readonly kl: number | null;
  readonly nll: number | null;
  /** Share of target tokens where student and teacher agree on the most likely one. */
  readonly agreement: number | null;
  readonly targets: number | null;
  /** A student that knows how often each token occurs in the training text, and nothing else. */
  readonly frequencyOnly: { readonly kl: number } | null;
  readonly measures: readonly EvalMeasure[];
  /** Documents of each task whose prompt was cut from the left to fit. */
  readonly cut: Readonly<Record<string, number>>;
  /** Positions charged now; those in the cache cost nothing. */
  readonly charged: number;
  readonly budgetLeft: number | null;
}

// `eval` is a reserved word.
export const evalVerb: Verb<EvalVerbOptions> = {
  ...evalHelp,
  async run(options: EvalVerbOptions, context: Context): Promise<EvalResult> {
    const { runEval } = await import('../run-eval.js');
    return runEval(options, context);
  },
};
