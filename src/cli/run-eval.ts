// The body of `distillock eval`: held-out text through the licensed teacher or its cache, then through the student.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, type ConfigFlags, loadConfig } from '../edge/config.js';
import { capture, dataFor, licensedSource, openStudentFor } from '../edge/distill.js';
import { type Prepared, type PreparedData, prepareData } from '../edge/prepare.js';
import type { LockedTeacher } from '../edge/teacher/locked-teacher.js';
import type { TrainingData } from '../edge/train/training-data.js';
import { ADAPTER_CONFIG } from '../model/checkpoint/peft.js';
import { EnvironmentError } from '../trusted/wire/errors.js';
import { describeData } from './describe-data.js';
import { InterruptedError } from './errors.js';
import { evaluateStudent, frequencyOnlyKl } from './experiment/compare.js';
import { openConfiguredTeacher } from './open-teacher.js';
import { renderTable } from './table.js';
import { formatNumber } from './terminal.js';
import type { Context } from './verb.js';
import type { EvalResult } from './verbs/eval.js';

export async function runEval(file: string | undefined, flags: ConfigFlags, context: Context): Promise<EvalResult> {
  const config = chooseStudent(await loadConfig(file, flags), flags);
  const teacher = await openConfiguredTeacher(config, context);
  try {
    const data = await prepareData(config, teacher.bundle.dir);
    if (data.evaluation === null) {
      throw new EnvironmentError('no-evaluation', 'there is no held-out text: set eval_dataset or validation_split');
    }
    for (const line of describeData('held-out text', data.evaluation.report, config)) context.note(line);
    const student = await openStudentFor(config, data);
    const { held, charged } = await captureHeldOut(config, teacher, data, data.evaluation, context);
    const { kl, nll, agreement, targets } = await evaluateStudent(config, student, held);
    const frequencyOnly = { kl: frequencyOnlyKl(data.train, held, teacher.bundle.config.vocabSize) };
    const { licence } = await teacher.client.status();
    const budgetLeft = licence?.remainingTokens ?? null;
    const result = {
      student: config.adapter_name_or_path ?? config.model_name_or_path,
      kl,
      nll,
      agreement,
      targets,
      frequencyOnly,
      charged,
      budgetLeft,
    };
    showResult(result, context);
    return result;
  } finally {
    await teacher.close();
  }
}

/** A student named by a flag, else the one that the run has written, else the one that the run starts from. */
function chooseStudent(config: Config, flags: ConfigFlags): Config {
  if (flags.model_name_or_path !== undefined || flags.adapter_name_or_path !== undefined) return config;
  const written = (file: string): boolean => existsSync(join(config.output_dir, file));
  if (written('config.json')) return { ...config, model_name_or_path: config.output_dir, adapter_name_or_path: null };
  return written(ADAPTER_CONFIG) ? { ...config, adapter_name_or_path: config.output_dir } : config;
}

async function captureHeldOut(
  config: Config,
  teacher: LockedTeacher,
  data: PreparedData,
  evaluation: Prepared,
  context: Context,
): Promise<{ held: TrainingData; charged: number }> {
  const progress = context.progress('teacher, held-out text');
  const { cache, outcome } = await capture(config, licensedSource(config, teacher), data, evaluation, 'evaluation', {
    events: {
      onCapture: (_, { rows, totalRows }) => progress.update({ tokens: rows, totalTokens: totalRows }),
      onSetAside: (file, reason) => progress.note(`teacher cache: ${file} is ${reason}; it is captured anew`),
    },
    signal: context.signal,
  });
  progress.stop();
  if (outcome.interrupted) throw new InterruptedError('Run the same command again: what was captured is kept.');
  return { held: dataFor(config, data, evaluation.examples, 'evaluation', cache), charged: outcome.rows };
}

function showResult(result: EvalResult, { print, colour }: Context): void {
  const { student, kl, nll, agreement, targets, frequencyOnly, charged, budgetLeft } = result;
  const columns = [
    { title: 'student' },
    { title: 'KL to teacher', numeric: true },
    { title: 'agreement', numeric: true },
    { title: 'NLL', numeric: true },
    { title: 'perplexity', numeric: true },
  ];
  const rows = [
    [student, kl.toFixed(4), `${(agreement * 100).toFixed(1)} %`, nll.toFixed(4), formatNumber(Math.exp(nll))],
    ['token frequencies only', frequencyOnly.kl.toFixed(4), '', '', ''],
  ];
  print(renderTable(columns, rows, colour));
  const cost = charged === 0 ? 'all from the cache, nothing charged' : `${formatNumber(charged)} charged now`;
  const left = budgetLeft === null ? '' : `, budget ${formatNumber(budgetLeft)} left`;
  print(`${formatNumber(targets)} held-out tokens, nats per token; ${cost}${left}.`);
}
