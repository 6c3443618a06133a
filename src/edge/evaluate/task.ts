// What a task is, and the table of those that can be named on the command line. Zone: edge.
// Names and meanings are lm-evaluation-harness's where it has them; `classification`, `samples` and `fewshot_path` are ours.
import { type AnswerFilter, GSM8K_FILTERS, GSM8K_NORMALISATION, type Normalisation } from './measures/exact-match.js';

export type OutputType = 'multiple_choice' | 'classification' | 'generate_until';
export type MetricName = 'acc' | 'acc_norm' | 'exact_match' | 'rougeL';

export interface Task {
  readonly name: string;
  readonly outputType: OutputType;
  /** JSON lines. */
  readonly dataset: string;
  /** Before everything. */
  readonly description: string;
  /** Field or template of the prompt. */
  readonly docToText: string;
  /** Field or template of the answer: text, or the index of a choice. Null: nothing to compare with. */
  readonly docToTarget: string | null;
  /** Field of the choices, or the choices of every document. Null for a classification: all labels that occur. */
  readonly docToChoice: string | readonly string[] | null;
  /** Between prompt and choice, where no chat template opens the answer. */
  readonly targetDelimiter: string;
  /** Solved examples before the prompt: the first `count` of a file. */
  readonly fewshot: { readonly file: string; readonly count: number; readonly delimiter: string } | null;
  /** Generation ends before one of these texts. */
  readonly until: readonly string[];
  readonly maxGenToks: number;
  /** exact_match is reported once for each. */
  readonly filters: readonly AnswerFilter[];
  readonly normalisation: Normalisation;
  readonly metrics: readonly MetricName[];
}

export const WHOLE_ANSWER: AnswerFilter = { name: 'none', pattern: null, groupSelect: 0 };
export const NO_NORMALISATION: Normalisation = { ignoreCase: false, ignorePunctuation: false, regexesToIgnore: [] };

const BASE = {
  description: '',
  docToText: 'prompt',
  docToTarget: 'label',
  docToChoice: null,
  targetDelimiter: ' ',
  fewshot: null,
  until: ['\n\n'],
  maxGenToks: 256,
  filters: [WHOLE_ANSWER],
  normalisation: NO_NORMALISATION,
} as const;

export type TaskDefaults = Omit<Task, 'name' | 'dataset'>;

/** Given as NAME=data.jsonl, or as output_type of a task file. */
export const TASKS: Readonly<Record<string, { readonly summary: string; readonly defaults: TaskDefaults }>> = {
  multiple_choice: {
    summary: 'fields prompt, choices, label (index or text): acc and acc_norm',
    defaults: { ...BASE, outputType: 'multiple_choice', docToChoice: 'choices', metrics: ['acc', 'acc_norm'] },
  },
  classification: {
    summary: 'fields prompt, label; every label of the file is a choice: acc',
    defaults: { ...BASE, outputType: 'classification', metrics: ['acc'] },
  },
  gsm8k: {
    summary: 'fields question, answer: exact_match, strict (number after ####) and flexible (last number)',
    defaults: {
      ...BASE,
      outputType: 'generate_until',
      docToText: 'Question: {{question}}\nAnswer:',
      docToTarget: 'answer',
      until: ['Question:', '</s>', '<|im_end|>'],
      filters: GSM8K_FILTERS,
      normalisation: GSM8K_NORMALISATION,
      metrics: ['exact_match'],
    },
  },
  rouge: {
    summary: 'fields prompt, completion: rougeL (F1)',
    defaults: { ...BASE, outputType: 'generate_until', docToTarget: 'completion', metrics: ['rougeL'] },
  },
  samples: {
    summary: 'field prompt: answers side by side, nothing measured',
    defaults: { ...BASE, outputType: 'generate_until', docToTarget: null, maxGenToks: 64, metrics: [] },
  },
};

/** Metrics that an output type can have. */
export const METRICS_OF: Readonly<Record<OutputType, readonly MetricName[]>> = {
  multiple_choice: ['acc', 'acc_norm'],
  classification: ['acc', 'acc_norm'],
  generate_until: ['exact_match', 'rougeL'],
};

/** The table's defaults for a task file that names an output type only. */
export function defaultsOf(outputType: OutputType): TaskDefaults {
  if (outputType !== 'generate_until') return TASKS[outputType]!.defaults;
  return { ...BASE, outputType, docToTarget: 'completion', metrics: ['exact_match'] };
}
