// distillock data preview: what a run would learn from a file: records as the template renders them, and which tokens count.
import type { Command } from 'commander';
import type { ConfigFlags, ConfigName } from '../../../edge/config.js';
import { addSettingFlags, givenFlags } from '../../config-flags.js';
import { wholeNumber } from '../../options.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface PreviewOptions {
  /** A data file, or the YAML config of a run. */
  readonly path: string;
  readonly tokenizer: string | null;
  /** Records to show. */
  readonly limit: number;
  readonly flags: ConfigFlags;
}

const SETTINGS: readonly ConfigName[] = [
  ...([
    'dataset_format',
    'dataset_prompt_field',
    'dataset_completion_field',
    'dataset_text_field',
    'dataset_label_field',
    'dataset_prompt_template',
    'dataset_delimiter',
    'max_samples',
  ] as const),
  ...(['apply_chat_template', 'append_eos', 'max_length', 'excess_length_strategy'] as const),
  ...(['packing', 'group_by_length', 'completion_only_loss', 'assistant_only_loss'] as const),
  'per_device_train_batch_size',
];

export const previewHelp: VerbHelp<PreviewOptions> = {
  name: 'data preview',
  summary: 'show what a run learns from: rendered records, which tokens count in the loss (edge)',
  examples: [
    ['distillock data preview config.yaml', 'the data of a run, as distill would read it'],
    [
      'distillock data preview chat.jsonl --tokenizer student --assistant_only_loss true',
      "only the assistant's turns count",
    ],
    [
      'distillock data preview banking77.csv --dataset_text_field text --dataset_label_field category --tokenizer t.lock',
      'classification out of a CSV file, through the tokenizer of a bundle',
    ],
    ['distillock data preview set.parquet --limit 2 --json', 'the first two records and the counts as JSON'],
  ],
  define(command: Command): void {
    command
      .argument('<path>', 'data file; or the YAML config of a run, whose settings then hold')
      .option(
        '--tokenizer <model>',
        "checkpoint folder, bundle or .gguf file whose tokenizer and chat template to use (default: the config's teacher)",
      )
      .option('--limit <n>', 'records to show; the counts are over all', wholeNumber(1, 10_000), 3);
    addSettingFlags(command, SETTINGS);
  },
  parse(command: Command): PreviewOptions {
    const { tokenizer, limit } = command.opts<{ readonly tokenizer: string | undefined; readonly limit: number }>();
    return { path: command.args[0]!, tokenizer: tokenizer ?? null, limit, flags: givenFlags(command) };
  },
};

export const preview: Verb<PreviewOptions> = {
  ...previewHelp,
  async run(options: PreviewOptions, context: Context): Promise<unknown> {
    const { runDataPreview } = await import('../../run-data-preview.js');
    return runDataPreview(options, context);
  },
};
