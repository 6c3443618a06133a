// The training loop: steps, evaluation, checkpoints, resume, stop. Nothing here knows where the data came from.
// Zone: edge. DESIGN section 8.
import type { TokenizerFiles } from '../../model/checkpoint/tokenizer-files.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import type { MetricsLine, MetricsWriter } from '../metrics.js';
import { type Evaluation, Evaluator } from './evaluate.js';
import { type Fingerprint, nothingUnlogged, readRunState, restoreRun, saveRun, type Unlogged } from './run-state.js';
import { learningRateAt, type ScheduleOptions } from './schedule.js';
import { Stepper, type StepperOptions, type StepResult } from './stepper.js';
import { type Student, saveStudent } from './student.js';
import type { TrainingData } from './training-data.js';

export interface TrainerOptions {
  readonly outputDir: string;
  readonly stepper: StepperOptions;
  readonly accumulation: number;
  readonly schedule: ScheduleOptions;
  readonly loggingSteps: number;
  /** 0: only at the end. */
  readonly evalSteps: number;
  /** 0: only when stopped early. */
  readonly saveSteps: number;
  readonly saveTotalLimit: number;
  readonly fingerprint: Fingerprint;
  /** Checkpoint folder to continue from. */
  readonly resumeFrom: string | null;
  /** Written beside every saved student. */
  readonly tokenizer: TokenizerFiles;
}

export interface StepReport extends StepResult {
  readonly step: number;
  readonly maxSteps: number;
  readonly epoch: number;
  readonly learningRate: number;
  readonly totalTokens: number;
  readonly tokensPerSecond: number;
}

export interface TrainerEvents {
  onStep?(report: StepReport): void;
  onEvaluation?(step: number, evaluation: Evaluation): void;
  onSave?(folder: string): void;
}

export interface TrainingOutcome {
  readonly steps: number;
  readonly tokens: number;
  readonly interrupted: boolean;
  /** Held-out measures after the last step; null when there is no evaluation data or the run was interrupted. */
  readonly final: Evaluation | null;
  /** Of the steps alone: evaluation and saving not counted. */
  readonly tokensPerSecond: number;
}

/**
 * Trains `student` in place up to `schedule.maxSteps` and saves it in `outputDir`, of an adapted student the adapters alone. When `signal` fires, the step in progress is
 * finished and saved, so that the run can be resumed. Throws EnvironmentError when the loss is not finite; the last checkpoint
 * stays as it is.
 */
export async function train(
  student: Student,
  data: TrainingData,
  evaluation: TrainingData | null,
  options: TrainerOptions,
  { metrics, events = {}, signal }: { metrics: MetricsWriter; events?: TrainerEvents; signal?: AbortSignal },
): Promise<TrainingOutcome> {
  const { stepper: settings, schedule, accumulation } = options;
  const stepper = await Stepper.open(student, settings, accumulation);
  const threads = settings.threads === undefined ? {} : { threads: settings.threads };
  const { temperature, chunkRows } = settings.loss;
  const evaluator =
    evaluation &&
    (await Evaluator.open(student, evaluation, {
      temperature,
      chunkRows: evaluationChunk(evaluation, chunkRows),
      ...threads,
    }));
  const evaluate = async (step: number): Promise<Evaluation | null> => {
    if (evaluator === null) return null;
    const result = await evaluator.evaluate(student);
    metrics.append({ step, eval_kl: result.kl, eval_nll: result.nll, eval_agreement: result.agreement });
    events.onEvaluation?.(step, result);
    return result;
  };
  try {
    let step = 0;
    let tokens = 0;
    let lastSaved = 0;
    let unlogged = nothingUnlogged;
    if (options.resumeFrom !== null) {
      ({ step, tokens, unlogged } = await readRunState(options.resumeFrom, options.fingerprint));
      await restoreRun(options.resumeFrom, student, stepper);
      lastSaved = step;
    }
    const { kdRatio, divergence } = settings.loss;
    const meter = new Meter(options.loggingSteps, unlogged, kdRatio === 0 ? {} : { kd_loss: divergence.label });
    const save = async (): Promise<void> => {
      const state = { step, tokens, unlogged: meter.unlogged, fingerprint: options.fingerprint };
      const { outputDir, tokenizer, saveTotalLimit } = options;
      const folder = await saveRun(outputDir, state, student, stepper, tokenizer, saveTotalLimit);
      lastSaved = step;
      events.onSave?.(folder);
    };
    const before = tokens;
    let stepMs = 0;
    while (step < schedule.maxSteps && !signal?.aborted) {
      const batches = Array.from({ length: accumulation }, (_, i) => {
        const micro = step * accumulation + i;
        const perEpoch = data.batches.batchesPerEpoch;
        return data.batches.batchAt(Math.floor(micro / perEpoch), micro % perEpoch);
      });
      const learningRate = learningRateAt(step + 1, schedule);
      const began = performance.now();
      const result = await stepper.step(step + 1, learningRate, data, batches);
      if (!Number.isFinite(result.loss) || !Number.isFinite(result.gradNorm))
        throw notFinite(step + 1, result, lastSaved, options);
      const elapsedMs = performance.now() - began;
      stepMs += elapsedMs;
      step += 1;
      tokens += result.tokens;
      const report: StepReport = {
        ...result,
        step,
        maxSteps: schedule.maxSteps,
        epoch: (step * accumulation) / data.batches.batchesPerEpoch,
        learningRate,
        totalTokens: tokens,
        tokensPerSecond: (result.tokens / elapsedMs) * 1000,
      };
      events.onStep?.(report);
      const line = meter.add(report, step === schedule.maxSteps);
      if (line) metrics.append(line);
      if (options.evalSteps > 0 && step % options.evalSteps === 0 && step < schedule.maxSteps) await evaluate(step);
      if (options.saveSteps > 0 && step % options.saveSteps === 0 && step < schedule.maxSteps) await save();
    }
    const tokensPerSecond = stepMs === 0 ? 0 : ((tokens - before) / stepMs) * 1000;
    const interrupted = step < schedule.maxSteps;
    if (interrupted) {
      if (step > lastSaved) await save();
      return { steps: step, tokens, interrupted, final: null, tokensPerSecond };
    }
    const final = await evaluate(step);
    await saveStudent(options.outputDir, student, options.tokenizer);
    return { steps: step, tokens, interrupted, final, tokensPerSecond };
  } finally {
    await stepper.close();
    await evaluator?.close();
  }
}

// Averages the steps between two logged lines; what is not logged yet goes into the checkpoint.
class Meter {
  readonly #every: number;
  /** Part of every line. */
  readonly #names: Pick<MetricsLine, 'kd_loss'>;
  #unlogged: Unlogged;

  constructor(every: number, unlogged: Unlogged, names: Pick<MetricsLine, 'kd_loss'>) {
    this.#every = every;
    this.#unlogged = unlogged;
    this.#names = names;
  }

  get unlogged(): Unlogged {
    return this.#unlogged;
  }

  add(report: StepReport, last: boolean): MetricsLine | null {
    const sum = this.#unlogged;
    this.#unlogged = {
      steps: sum.steps + 1,
      loss: sum.loss + report.loss,
      kd: sum.kd + report.kd,
      ce: sum.ce + report.ce,
      gradNorm: sum.gradNorm + report.gradNorm,
      tokensPerSecond: sum.tokensPerSecond + report.tokensPerSecond,
    };
    if (report.step % this.#every !== 0 && !last) return null;
    const { steps, loss, kd, ce, gradNorm, tokensPerSecond } = this.#unlogged;
    this.#unlogged = nothingUnlogged;
    return {
      step: report.step,
      epoch: report.epoch,
      tokens: report.totalTokens,
      loss: loss / steps,
      kd: kd / steps,
      ...this.#names,
      ce: ce / steps,
      grad_norm: gradNorm / steps,
      lr: report.learningRate,
      tokens_per_s: tokensPerSecond / steps,
    };
  }
}

function evaluationChunk(data: TrainingData, chunkRows: number): number {
  const rows = data.batches.rows * data.batches.columns;
  return rows % chunkRows === 0 ? chunkRows : data.batches.columns;
}

function notFinite(
  step: number,
  result: StepResult,
  lastSaved: number,
  { outputDir }: TrainerOptions,
): EnvironmentError {
  const kept =
    lastSaved > 0
      ? `the last good checkpoint is ${outputDir}/checkpoint-${lastSaved}`
      : 'no checkpoint was written yet';
  return new EnvironmentError(
    'loss-not-finite',
    `step ${step}: loss ${result.loss}, gradient norm ${result.gradNorm}; stopped, ${kept}. Lower learning_rate or max_grad_norm and run again`,
    { step, lastSaved },
  );
}
