// The body of `distillock distill`: opens the teacher, runs the job with progress, writes report.html.
import { join } from 'node:path';
import { type Config, type ConfigFlags, loadConfig } from '../edge/config.js';
import { type DistillEvents, type DistillOutcome, distill } from '../edge/distill.js';
import { describeLoss } from '../edge/loss-settings.js';
import { readMetrics } from '../edge/metrics.js';
import { batchesFor } from '../edge/prepare.js';
import type { LockedTeacher } from '../edge/teacher/locked-teacher.js';
import { writeFileAtomic } from '../model/files.js';
import type { EnclaveStatus } from '../trusted/wire/status.js';
import { describeData, describeSmallness } from './describe-data.js';
import { openConfiguredTeacher } from './open-teacher.js';
import type { Progress } from './progress.js';
import { renderReport } from './report/page.js';
import { curvesOf } from './report/report-data.js';
import { renderPairs } from './table.js';
import { formatDuration, formatNumber } from './terminal.js';
import type { Context } from './verb.js';
import type { DistillResult } from './verbs/distill.js';

/** Throws what the job throws, and `signal.reason` after Ctrl-C, when everything that can be resumed is saved. */
export async function runDistill(
  file: string | undefined,
  flags: ConfigFlags,
  context: Context,
): Promise<DistillResult> {
  const config = await loadConfig(file, flags);
  const teacher = await openConfiguredTeacher(config, context);
  try {
    const before = await teacher.client.status();
    context.note(`loss: ${describeLoss(config)}`);
    const shown = showProgress(config, context, before);
    const outcome = await distill(config, teacher, { events: shown.events, signal: context.signal });
    shown.stop();
    if (outcome.interrupted) {
      context.note(
        `stopped; go on with: distillock distill ${file ?? ''} --resume_from_checkpoint true`.replace('  ', ' '),
      );
      throw context.signal.reason;
    }
    const result = await resultOf(config, teacher, outcome);
    await writeFileAtomic(result.report, await reportOf(config, outcome, result));
    context.print(summary(result, context));
    return result;
  } finally {
    await teacher.close();
  }
}

// One bar for each phase; the budget falls as rows are released.
function showProgress(
  config: Config,
  context: Context,
  { licence }: EnclaveStatus,
): { events: DistillEvents; stop(): void } {
  let title = '';
  let bar: Progress | null = null;
  let released = 0;
  const phase = (name: string): Progress => {
    if (bar === null || title !== name) {
      bar?.stop();
      bar = context.progress(name);
      title = name;
    }
    return bar;
  };
  const budgetLeft = (): number | undefined => (licence === null ? undefined : licence.remainingTokens - released);
  let rowsBefore = 0;
  let tokensPerStep = 0;
  const events: DistillEvents = {
    onData({ train, evaluation }) {
      for (const line of describeData('training text', train.report, config)) context.note(line);
      const small = describeSmallness(batchesFor(config, train.examples, 'train', 0).stats, config);
      if (small !== null) context.note(small);
      if (evaluation === null) context.note('no held-out text');
      else for (const line of describeData('held-out text', evaluation.report, config)) context.note(line);
    },
    onCapture(purpose, { rows, totalRows, tokens }) {
      released += rows - (rows < rowsBefore ? 0 : rowsBefore);
      rowsBefore = rows;
      const share = tokens / Math.max(1, rows);
      phase(`teacher, ${purpose} text`).update({
        tokens,
        totalTokens: Math.round(totalRows * share),
        budgetLeft: budgetLeft(),
      });
    },
    onStep({ totalTokens, step, maxSteps, loss }) {
      tokensPerStep = totalTokens / step;
      phase('student').update({
        tokens: totalTokens,
        totalTokens: Math.round(tokensPerStep * maxSteps),
        loss,
        budgetLeft: budgetLeft(),
      });
    },
    onEvaluation(step, { kl, nll, agreement }) {
      const taught = Number.isNaN(kl)
        ? ''
        : `KL to teacher ${kl.toFixed(4)}, agreement ${(agreement * 100).toFixed(1)} %, `;
      const line = `step ${step}: held-out ${taught}NLL ${nll.toFixed(4)}`;
      if (bar) bar.note(line);
      else context.note(line);
    },
    onSetAside: (file, reason) => context.note(`teacher cache: ${file} is ${reason}; set aside, it is captured anew`),
  };
  return { events, stop: () => bar?.stop() };
}

async function resultOf(config: Config, teacher: LockedTeacher, outcome: DistillOutcome): Promise<DistillResult> {
  const { licence } = await teacher.client.status();
  const training = outcome.training!;
  const captures = [outcome.captured.train, outcome.captured.evaluation].filter((capture) => capture !== null);
  const sum = (pick: (capture: (typeof captures)[number]) => number): number =>
    captures.reduce((total, c) => total + pick(c), 0);
  const { final } = training;
  return {
    student: config.output_dir,
    loss: describeLoss(config),
    report: join(config.output_dir, 'report.html'),
    steps: training.steps,
    tokens: training.tokens,
    tokensPerSecond: training.tokensPerSecond,
    evaluation: final && { kl: final.kl, nll: final.nll, agreement: final.agreement },
    captured: { rows: sum((c) => c.rows), tokens: sum((c) => c.tokens), seconds: sum((c) => c.seconds) },
    budget: licence && { granted: licence.budgetTokens, charged: licence.chargedTokens },
    egressBytesAfterUnlock: teacher.client.egressBytesAfterUnlock,
  };
}

function pairsOf(result: DistillResult): [string, string][] {
  const { evaluation, budget, captured } = result;
  return [
    ['student', result.student],
    ['loss', result.loss],
    [
      'steps',
      `${formatNumber(result.steps)} (${formatNumber(result.tokens)} tokens, ${formatNumber(Math.round(result.tokensPerSecond))} tokens/s)`,
    ],
    ['teacher', `${formatNumber(captured.rows)} positions released in ${formatDuration(captured.seconds)}`],
    ...(evaluation
      ? ([
          ['KL to teacher', `${evaluation.kl.toFixed(4)} nats per token, held out`],
          ['agreement', `${(evaluation.agreement * 100).toFixed(1)} % of held-out tokens`],
          ['NLL', `${evaluation.nll.toFixed(4)} nats per token, held out`],
        ] as [string, string][])
      : []),
    ...(budget
      ? ([['budget', `${formatNumber(budget.charged)} of ${formatNumber(budget.granted)} tokens charged`]] as [
          string,
          string,
        ][])
      : []),
    ['left the device', `${formatNumber(result.egressBytesAfterUnlock)} bytes after unlock`],
  ];
}

function weightsOf({ student: { parameters, trained } }: DistillOutcome): [string, string][] {
  const frozen = trained === parameters ? '' : `, ${formatNumber(trained)} of them trained`;
  return [['student weights', `${formatNumber(parameters)}${frozen}`]];
}

function summary(result: DistillResult, { colour }: Context): string {
  return renderPairs([...pairsOf(result), ['report', result.report]], colour);
}

async function reportOf(config: Config, outcome: DistillOutcome, result: DistillResult): Promise<string> {
  const lines = await readMetrics(join(config.output_dir, 'metrics.jsonl'));
  return renderReport({
    title: 'distillock: distillation',
    simulated: config.platform === 'simulated',
    summary: [...weightsOf(outcome), ...pairsOf(result)],
    tables: [],
    curves: curvesOf({ student: lines }),
    // The code buys nothing twice, but a report is handed around.
    config: { ...config, activation_code: config.activation_code === null ? null : 'not shown' },
    notes: [
      'The text and everything in this report stayed on this device.',
      'KL, agreement and NLL are means over held-out target tokens; the KL is over the released top-k and one bucket for the rest.',
    ],
  });
}
