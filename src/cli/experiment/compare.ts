// The same student, the same text, the same steps, three sources of what to learn: the licensed teacher, the text alone, and
// the locked teacher without its enclave. Zone: edge and owner. The proof that the lock matters.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { TeacherCache } from '../../edge/cache/teacher-cache.js';
import type { Config } from '../../edge/config.js';
import { countTargets } from '../../edge/data/example.js';
import {
  acceleratorBatchTokens,
  capture,
  type DistillOptions,
  dataFor,
  licensedSource,
  openStudentFor,
  openTrainee,
  type TeacherSource,
} from '../../edge/distill.js';
import { lossChunkRows, type Prepared, type PreparedData } from '../../edge/prepare.js';
import type { CaptureOutcome } from '../../edge/teacher/capture.js';
import { openGate } from '../../edge/teacher/gate.js';
import type { LockedTeacher } from '../../edge/teacher/locked-teacher.js';
import { type Evaluation, Evaluator } from '../../edge/train/evaluate.js';
import { parameterCount, type Student } from '../../edge/train/student.js';
import type { TrainingOutcome } from '../../edge/train/trainer.js';
import type { TrainingData } from '../../edge/train/training-data.js';
import { trainStudent } from '../../edge/train-student.js';
import { DistillockError, EnvironmentError } from '../../trusted/wire/errors.js';

/** What the students learn from. */
export type Arm = 'authorised' | 'text' | 'unauthorised';

export interface ArmResult {
  readonly final: Evaluation;
  readonly training: TrainingOutcome;
}

export interface Comparison {
  readonly start: Evaluation;
  readonly arms: Readonly<Partial<Record<Arm, ArmResult>>>;
  readonly studentParameters: number;
  readonly evaluation: TrainingData;
  /** Captures through the enclave, training text. */
  readonly teacherCapture: CaptureOutcome;
  /** What the enclave without a licence answered. */
  readonly refusal: string;
}

export interface CompareOptions extends DistillOptions {
  readonly arms: readonly Arm[];
  onArm?(arm: Arm): void;
}

/** A cache that must be whole before training starts. */
async function captureAll(
  config: Config,
  source: TeacherSource,
  data: PreparedData,
  prepared: Prepared,
  purpose: 'train' | 'evaluation',
  options: DistillOptions,
): Promise<{ cache: TeacherCache; outcome: CaptureOutcome }> {
  const captured = await capture(config, source, data, prepared, purpose, options);
  if (captured.outcome.interrupted)
    throw new EnvironmentError('interrupted', 'stopped; run again to go on where it was');
  return captured;
}

/** Measures a student on held-out text. */
export async function evaluateStudent(config: Config, student: Student, data: TrainingData): Promise<Evaluation> {
  const { rows, columns } = data.batches;
  const evaluator = await Evaluator.open(student, data, {
    temperature: config.kd_temperature,
    chunkRows: lossChunkRows(rows * columns, student.config.vocabSize),
    ...(config.threads === null ? {} : { threads: config.threads }),
  });
  try {
    return await evaluator.evaluate(student);
  } finally {
    await evaluator.close();
  }
}

/**
 * Runs the arms one after the other. `licensed` answers within its licence; `refused` is an enclave for the same bundle without
 * one: it must refuse, and the attacker then feeds plain token ids to the accelerator and reads its answers as token ids.
 */
export async function compareStudents(
  config: Config,
  data: PreparedData,
  { licensed, refused }: { licensed: LockedTeacher; refused: LockedTeacher },
  options: CompareOptions,
): Promise<Comparison> {
  if (data.evaluation === null)
    throw new EnvironmentError(
      'no-evaluation',
      'a comparison needs held-out text: set eval_dataset or validation_split',
    );
  const session = { topK: config.loss_top_k, temperature: config.kd_temperature };
  const honest = licensedSource(config, licensed);
  const held = await captureAll(config, honest, data, data.evaluation, 'evaluation', options);
  const evaluation = dataFor(config, data, data.evaluation.examples, 'evaluation', held.cache);
  const start = await evaluateStudent(config, await openStudentFor(config, data), evaluation);
  const taught = await captureAll(config, honest, data, data.train, 'train', options);
  await licensed.unload();
  const refusal = await refusalOf(refused, session);
  const arms: Partial<Record<Arm, ArmResult>> = {};
  let studentParameters = 0;
  for (const arm of options.arms) {
    options.onArm?.(arm);
    const cache =
      arm === 'authorised'
        ? taught.cache
        : arm === 'text'
          ? null
          : (await captureAll(config, attacker(refused), data, data.train, 'train', options)).cache;
    await refused.unload();
    const student = await openTrainee(config, data);
    studentParameters = parameterCount(student);
    const own: Config = { ...config, output_dir: join(config.output_dir, arm) };
    const training = await trainStudent(
      own,
      student,
      dataFor(config, data, data.train.examples, 'train', cache),
      evaluation,
      data.tokenizerFiles,
      options,
    );
    if (training.final === null) throw new EnvironmentError('interrupted', 'stopped; run again to go on where it was');
    arms[arm] = { final: training.final, training };
  }
  return { start, arms, studentParameters, evaluation, teacherCapture: taught.outcome, refusal };
}

// Whoever was refused: plain ids in, answers taken as they come, filed under a name of their own.
function attacker(locked: LockedTeacher): TeacherSource {
  return {
    accelerator: locked.accelerator,
    unload: locked.unload,
    gate: openGate,
    cacheId: createHash('sha256').update(`unauthorised ${locked.bundle.bundleId}`).digest('hex'),
    vocabSize: locked.bundle.config.vocabSize,
    batchTokens: acceleratorBatchTokens,
  };
}

// The code with which an enclave that holds no licence refuses a session.
async function refusalOf(refused: LockedTeacher, session: { topK: number; temperature: number }): Promise<string> {
  try {
    await refused.gate(session);
  } catch (error) {
    if (error instanceof DistillockError) return error.code;
    throw error;
  }
  throw new EnvironmentError(
    'not-refused',
    'the enclave without a licence did not refuse: the comparison would be meaningless',
  );
}

/**
 * KL(teacher‖unigram) per target token in nats: the line of a student that learned token frequencies of the training text only.
 * Add-one smoothing over the vocabulary; the same top-k and tail as every other figure.
 */
export function frequencyOnlyKl(training: Prepared, evaluation: TrainingData, vocabSize: number): number {
  const counts = new Float64Array(vocabSize).fill(1);
  for (const { inputIds, lossMask } of training.examples)
    inputIds.forEach((id, t) => {
      if (lossMask[t] === 1) counts[id]! += 1;
    });
  const total = counts.reduce((a, b) => a + b, 0);
  let kl = 0;
  let rows = 0;
  evaluation.examples.forEach((example, index) => {
    const teacher = evaluation.teacher!.readExample(index);
    for (let row = 0; row < teacher.rows; row += 1) {
      let outside = 1;
      for (let i = 0; i < teacher.k; i += 1) {
        const q = counts[teacher.tokenIds[row * teacher.k + i]!]! / total;
        const logp = teacher.logprobs[row * teacher.k + i]!;
        outside -= q;
        kl += Math.exp(logp) * (logp - Math.log(q));
      }
      const tail = teacher.tail[row]!;
      kl += Math.exp(tail) * (tail - Math.log(outside));
    }
    rows += countTargets(example);
  });
  return kl / rows;
}
