// A task described by a small YAML or JSON file, with lm-evaluation-harness's names. Zone: edge.
// What lm-eval knows and this suite cannot do is refused by name; what has no meaning for a local file is reported as ignored.
import { readFile } from 'node:fs/promises';
import { basename, dirname, extname, resolve } from 'node:path';
import { isMap, isScalar, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { describeFileError } from '../../model/files.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { defaultsOf, METRICS_OF, type Task } from './task.js';
import { compileFilter, compileNormalisation, FILTERS, METRICS } from './task-metrics.js';

const lines = z.union([z.string().transform((one) => [one]), z.array(z.string())]);
const SCHEMA = z.strictObject({
  task: z.string().min(1).optional(),
  output_type: z.enum(['multiple_choice', 'classification', 'generate_until']),
  dataset_path: z.string().min(1),
  description: z.string().optional(),
  doc_to_text: z.string().optional(),
  doc_to_target: z.string().min(1).optional(),
  doc_to_choice: z.union([z.string().min(1), z.array(z.string().min(1)).min(2)]).optional(),
  target_delimiter: z.string().optional(),
  num_fewshot: z.int().min(0).optional(),
  fewshot_path: z.string().min(1).optional(),
  fewshot_delimiter: z.string().optional(),
  generation_kwargs: z
    .strictObject({
      until: lines.optional(),
      max_gen_toks: z.int().min(1).optional(),
      do_sample: z.literal(false, 'evaluation is greedy: false').optional(),
      temperature: z.literal(0, 'evaluation is greedy: 0').optional(),
    })
    .optional(),
  metric_list: METRICS.optional(),
  filter_list: FILTERS.optional(),
});

/** Fields of lm-eval that say nothing about one local file. */
const IGNORED = new Set([
  ...['group', 'tag', 'dataset_name', 'training_split', 'validation_split', 'test_split', 'fewshot_split'],
  'metadata',
]);

export interface TaskFile {
  readonly task: Task;
  /** Fields that were not read. */
  readonly ignored: readonly string[];
}

/** Throws MalformedError('task-file') naming file, line and field. Relative paths start at the file's folder. */
export async function readTaskFile(file: string): Promise<TaskFile> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  const refuse = (line: number, problem: string, field?: string): MalformedError =>
    new MalformedError('task-file', `${file}:${line}: ${problem}`, { file, line, ...(field ? { field } : {}) });
  const fault = document.errors[0];
  if (fault !== undefined) throw refuse(counter.linePos(fault.pos[0]).line, `not YAML: ${fault.message}`);
  const { contents } = document;
  if (!isMap(contents)) throw refuse(1, 'a task is a list of "name: value" lines');
  const given: Record<string, unknown> = {};
  const lineOf: Record<string, number> = {};
  const ignored: string[] = [];
  const values = document.toJS() as Record<string, unknown>;
  for (const { key } of contents.items) {
    const name = isScalar(key) ? String(key.value) : '?';
    lineOf[name] = isScalar(key) && key.range ? counter.linePos(key.range[0]).line : 1;
    if (IGNORED.has(name)) ignored.push(name);
    else given[name] = values[name];
  }
  const refuseField = (field: string, problem: string): MalformedError =>
    refuse(lineOf[field] ?? 1, `field "${field}" ${problem}`, field);
  const result = SCHEMA.safeParse(given);
  if (result.success) return { task: taskOf(result.data, file, refuseField), ignored };
  const { field, problem } = describeIssue(result.error.issues[0]!, given);
  throw refuseField(field, problem);
}

function describeIssue(issue: z.core.$ZodIssue, given: Record<string, unknown>): { field: string; problem: string } {
  if (issue.code === 'unrecognized_keys' && issue.path.length === 0) {
    const known = Object.keys(SCHEMA.shape).join(', ');
    return { field: issue.keys[0]!, problem: `is not known here; known are ${known}` };
  }
  const field = String(issue.path[0]);
  if (given[field] === undefined) return { field, problem: 'is missing' };
  return { field, problem: `${issue.path.slice(1).join('.')} ${issue.message}`.trim() };
}

function taskOf(
  given: z.infer<typeof SCHEMA>,
  file: string,
  refuse: (field: string, problem: string) => MalformedError,
): Task {
  const defaults = defaultsOf(given.output_type);
  const folder = dirname(resolve(file));
  const count = given.num_fewshot ?? 0;
  if (count > 0 && given.fewshot_path === undefined)
    throw refuse('num_fewshot', 'needs fewshot_path, a jsonl file of solved examples');
  if (given.output_type === 'classification' && typeof given.doc_to_choice === 'string')
    throw refuse(
      'doc_to_choice',
      'is the list of all labels in a classification; leave it out to take those of the data',
    );
  const allowed = METRICS_OF[given.output_type];
  const wrong = given.metric_list?.find(({ metric }) => !allowed.includes(metric));
  if (wrong !== undefined)
    throw refuse('metric_list', `has ${wrong.metric}; ${given.output_type} can have ${allowed.join(', ')}`);
  const exact = given.metric_list?.find(({ metric }) => metric === 'exact_match');
  return {
    ...defaults,
    name: given.task ?? basename(file, extname(file)),
    dataset: resolve(folder, given.dataset_path),
    description: given.description ?? defaults.description,
    docToText: given.doc_to_text ?? defaults.docToText,
    docToTarget: given.doc_to_target ?? defaults.docToTarget,
    docToChoice: given.doc_to_choice ?? defaults.docToChoice,
    targetDelimiter: given.target_delimiter ?? defaults.targetDelimiter,
    fewshot:
      count === 0
        ? null
        : { file: resolve(folder, given.fewshot_path!), count, delimiter: given.fewshot_delimiter ?? '\n\n' },
    until: given.generation_kwargs?.until ?? defaults.until,
    maxGenToks: given.generation_kwargs?.max_gen_toks ?? defaults.maxGenToks,
    metrics: given.metric_list?.map(({ metric }) => metric) ?? defaults.metrics,
    filters:
      given.filter_list?.map((filter) => compileFilter(filter, (problem) => refuse('filter_list', problem))) ??
      defaults.filters,
    normalisation:
      exact === undefined
        ? defaults.normalisation
        : compileNormalisation(exact, (problem) => refuse('metric_list', problem)),
  };
}
