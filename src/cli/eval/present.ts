// What `distillock eval` says: the teacher's price before, then one table, what its numbers rest on, and answers side by side.
import { TEXT_TASK } from '../../edge/evaluate/choose-tasks.js';
import { BOOTSTRAP_RESAMPLES } from '../../edge/evaluate/interval.js';
import type { PreparedTask } from '../../edge/evaluate/prepared-task.js';
import type { TeacherCost } from '../../edge/evaluate/score.js';
import { type Column, renderTable } from '../table.js';
import { formatNumber, paint } from '../terminal.js';
import type { Context } from '../verb.js';
import { type EvalCell, type EvalMeasure, type EvalResult, MODELS, type ModelRole } from '../verbs/eval.js';
import type { Collected } from './collected.js';

const TITLES: Readonly<Record<string, string>> = { kl: 'KL to teacher', nll: 'NLL' };
const SHARES = /^(acc|acc_norm|agreement|exact_match)\b/;

/** A line on stderr before anything is charged. */
export function showCost({ rows, generated }: TeacherCost, left: number | null, { note }: Pick<Context, 'note'>): void {
  if (rows + generated === 0) return;
  const parts = [
    ...(rows > 0 ? [`${formatNumber(rows)} positions`] : []),
    ...(generated > 0 ? [`at most ${formatNumber(generated)} generated tokens`] : []),
  ];
  const budget = left === null ? '' : ` of ${formatNumber(left)} left`;
  note(`the teacher's answers will be charged: ${parts.join(' and ')}${budget}`);
}

export function showResult(
  result: EvalResult,
  tasks: readonly PreparedTask[],
  collected: Collected,
  { print, colour }: Pick<Context, 'print' | 'colour'>,
): void {
  const { measures, student, baseline, frequencyOnly, charged, budgetLeft } = result;
  const roles = MODELS.filter((role) => measures.some(({ models }) => models[role] !== undefined));
  const columns: Column[] = [
    { title: 'task' },
    { title: 'measure' },
    { title: 'documents', numeric: true },
    ...roles.map((title) => ({ title, numeric: true })),
  ];
  const rows = measures.map(({ task, measure, documents, models }) => [
    task,
    TITLES[measure] ?? measure,
    formatNumber(documents),
    ...roles.map((role) => (models[role] ? showCell(measure, models[role]) : '')),
  ]);
  if (rows.length > 0) print(renderTable(columns, rows, colour));
  for (const prepared of tasks) if (prepared.task.metrics.length === 0) print(sideBySide(prepared, collected, colour));
  if (roles.includes('student')) print(`student: ${student}`);
  if (baseline !== null) print(`baseline: ${baseline}`);
  if (rows.length > 0)
    print(
      `in brackets: 95 % intervals over documents; Wilson for shares of documents, else bootstrap (${BOOTSTRAP_RESAMPLES} resamples, seeded).`,
    );
  for (const line of bounds(measures)) print(line);
  for (const [task, count] of Object.entries(result.cut))
    if (count > 0)
      print(`${task}: ${formatNumber(count)} prompts were longer than the models read; their start was cut.`);
  if (frequencyOnly !== null)
    print(`token frequencies only: KL to teacher ${frequencyOnly.kl.toFixed(4)} nats per token.`);
  const targets = result.targets === null ? '' : `${formatNumber(result.targets)} held-out tokens, nats per token; `;
  const cost = charged === 0 ? 'nothing charged' : `${formatNumber(charged)} charged now`;
  const left = budgetLeft === null ? '' : `, budget ${formatNumber(budgetLeft)} left`;
  print(`${targets}${cost}${left}.`);
}

function showCell(measure: string, { value, low, high, bounded, range }: EvalCell): string {
  const show = (x: number): string =>
    SHARES.test(measure)
      ? (100 * x).toFixed(1)
      : measure === 'perplexity'
        ? formatNumber(x)
        : x.toFixed(4).replace(/^-(?=0\.0+$)/, '');
  if (range !== null) return `${show(range[0])} to ${show(range[1])} %`;
  const sign = bounded === 0 ? '' : '≥ ';
  const unit = SHARES.test(measure) ? ' %' : '';
  const interval = low === null || high === null ? '' : ` [${show(low)}, ${show(high)}]`;
  return `${sign}${show(value)}${unit}${interval}`;
}

// What stands behind ≥ and ranges.
function bounds(measures: readonly EvalMeasure[]): string[] {
  return measures.flatMap(({ task, measure, documents, models }) => {
    const bounded = models.teacher?.bounded ?? 0;
    if (bounded === 0 || measure === 'perplexity') return [];
    const where = `${task}, ${TITLES[measure] ?? measure}, teacher: in ${bounded} of ${documents} documents`;
    return [
      task === TEXT_TASK
        ? `${where} tokens outside the released top k count with the upper bound of their probability.`
        : `${where} the released top k do not decide whether the right choice wins; a larger loss_top_k decides more.`,
    ];
  });
}

function sideBySide(prepared: PreparedTask, collected: Collected, colour: boolean): string {
  const lines = prepared.items.flatMap(({ prompt }, i) => {
    const answers = MODELS.flatMap((role: ModelRole) => {
      const response = collected.of(prepared.task.name, role)?.[i]?.prediction['response'];
      return typeof response === 'string' ? [`  ${paint(colour, 'dim', role.padEnd(9))} ${oneLine(response)}`] : [];
    });
    return [paint(colour, 'bold', `${prepared.task.name} ${i + 1}: ${oneLine(prompt)}`), ...answers];
  });
  return `${lines.join('\n')}\n`;
}

function oneLine(text: string): string {
  return JSON.stringify(text.trim()).slice(1, -1).replaceAll('\\"', '"');
}
