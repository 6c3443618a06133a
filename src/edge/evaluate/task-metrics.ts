// metric_list and filter_list of a task file: lm-eval's options of exact_match, and its `regex` filter, as JavaScript patterns.
// Zone: edge. Python's inline flags `(?s)` at the start of a pattern become flags; whatever else JavaScript refuses is an error.
import { z } from 'zod';
import type { MalformedError } from '../../trusted/wire/errors.js';
import type { AnswerFilter, Normalisation } from './measures/exact-match.js';
import type { MetricName } from './task.js';

/** An entry of metric_list. */
export interface MetricEntry {
  readonly metric: MetricName;
  readonly aggregation?: 'mean' | undefined;
  readonly higher_is_better?: true | undefined;
  readonly ignore_case?: boolean | undefined;
  readonly ignore_punctuation?: boolean | undefined;
  readonly regexes_to_ignore?: string[] | undefined;
}

type FilterStep =
  | { readonly function: 'take_first' }
  | { readonly function: 'regex'; readonly regex_pattern: string; readonly group_select?: number | undefined };

/** An entry of filter_list. */
export interface FilterEntry {
  readonly name: string;
  readonly filter: FilterStep[];
}

export const METRICS: z.ZodType<MetricEntry[]> = z
  .array(
    z.strictObject({
      metric: z.enum(['acc', 'acc_norm', 'exact_match', 'rougeL']),
      aggregation: z.literal('mean').optional(),
      higher_is_better: z.literal(true).optional(),
      ignore_case: z.boolean().optional(),
      ignore_punctuation: z.boolean().optional(),
      regexes_to_ignore: z.array(z.string()).optional(),
    }),
  )
  .min(1);

const step: z.ZodType<FilterStep> = z.union([
  z.strictObject({ function: z.literal('take_first') }),
  z.strictObject({
    function: z.literal('regex'),
    regex_pattern: z.string().min(1),
    group_select: z.int().optional(),
  }),
]);
export const FILTERS: z.ZodType<FilterEntry[]> = z
  .array(z.strictObject({ name: z.string().min(1), filter: z.array(step).min(1) }))
  .min(1);

type Refuse = (problem: string) => MalformedError;

export function compileFilter({ name, filter }: FilterEntry, refuse: Refuse): AnswerFilter {
  const patterns = filter.filter((one) => one.function === 'regex');
  if (patterns.length > 1) throw refuse(`has a filter "${name}" of ${patterns.length} patterns; one is possible`);
  const [one] = patterns;
  if (one === undefined) return { name, pattern: null, groupSelect: 0 };
  return { name, pattern: compile(one.regex_pattern, refuse), groupSelect: one.group_select ?? 0 };
}

export function compileNormalisation(metric: MetricEntry, refuse: Refuse): Normalisation {
  return {
    ignoreCase: metric.ignore_case ?? false,
    ignorePunctuation: metric.ignore_punctuation ?? false,
    regexesToIgnore: (metric.regexes_to_ignore ?? []).map((pattern) => compile(pattern, refuse)),
  };
}

function compile(pattern: string, refuse: Refuse): RegExp {
  const [opening = '', flags = ''] = /^\(\?([ims]+)\)/.exec(pattern) ?? [];
  try {
    return new RegExp(pattern.slice(opening.length), `g${flags}`);
  } catch (error) {
    throw refuse(`has the pattern ${pattern}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
