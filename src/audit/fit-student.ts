// How attackers train: the project's own optimiser steps on a student in memory, whole or in part. Zone: owner (as attacker).

import type { TeacherRows } from '../edge/cache/rows.js';
import { createBatches } from '../edge/data/batches.js';
import type { Example } from '../edge/data/example.js';
import { lossChunkRows } from '../edge/prepare.js';
import { mergeAdapters, withAdapters } from '../edge/train/adapters.js';
import { Evaluator } from '../edge/train/evaluate.js';
import { learningRateAt } from '../edge/train/schedule.js';
import { Stepper } from '../edge/train/stepper.js';
import type { Student } from '../edge/train/student.js';
import type { TrainingData } from '../edge/train/training-data.js';
import { divergenceOf } from '../graph/ops/divergence.js';
import type { LoraConfig } from '../model/lora.js';

/** What is learned from: texts with the teacher's rows, or texts alone. */
export interface Lessons {
  readonly examples: readonly Example[];
  /** One per example; null learns from the text alone. */
  readonly released: readonly TeacherRows[] | null;
}

export interface FitOptions {
  readonly steps: number;
  readonly learningRate: number;
  readonly seed: number;
  readonly batchSize?: number;
  /** Parameters that are trained; all when absent. */
  readonly trainable?: (name: string) => boolean;
  /** Low-rank adapters are trained instead, with `modules_to_save`, and merged into the weights at the end. */
  readonly lora?: LoraConfig;
}

/** Texts per optimiser step. */
export const BATCH_TEXTS = 4;

/** Texts and rows as training and evaluation take them; `shuffle` by seed, or in order. */
export function trainingData(lessons: Lessons, batchSize: number, seed: number, shuffle: boolean): TrainingData {
  const { examples, released } = lessons;
  const maxLength = examples.reduce((longest, { inputIds }) => Math.max(longest, inputIds.length), 0);
  const layout = { batchSize, maxLength, packing: false, seed, shuffle, padTokenId: 0 };
  return {
    examples,
    batches: createBatches(examples, layout),
    teacher: released === null ? null : { k: released[0]!.k, readExample: (example) => released[example]! },
  };
}

/** Trains `student` in place by AdamW with a cosine schedule. KD alone where there are rows, cross-entropy where there are none. */
export async function fitStudent(student: Student, lessons: Lessons, options: FitOptions): Promise<void> {
  const { steps, learningRate, seed, batchSize = BATCH_TEXTS, trainable, lora } = options;
  if (steps === 0) return;
  const data = trainingData(lessons, batchSize, seed, true);
  const { rows, columns, batchesPerEpoch } = data.batches;
  const taught = data.teacher !== null;
  const trained = lora === undefined ? student : withAdapters(student, lora, seed);
  const stepper = await Stepper.open(
    trained,
    {
      batch: rows,
      tokens: columns,
      topK: data.teacher?.k ?? 0,
      loss: {
        divergence: divergenceOf('forward_kl'),
        kdRatio: taught ? 1 : 0,
        temperature: 1,
        chunkRows: lossChunkRows(rows * columns, student.config.vocabSize),
      },
      optimiser: { beta1: 0.9, beta2: 0.95, weightDecay: 0, maxGradNorm: 1 },
      adamEpsilon: 1e-8,
      ...(trainable ? { trainable } : {}),
      ...(lora ? { lora } : {}),
    },
    1,
  );
  const schedule = { learningRate, maxSteps: steps, warmupRatio: 0.05, type: 'cosine', minRatio: 0.02 } as const;
  try {
    for (let step = 0; step < steps; step += 1) {
      const batch = data.batches.batchAt(Math.floor(step / batchesPerEpoch), step % batchesPerEpoch);
      const { loss } = await stepper.step(step + 1, learningRateAt(step + 1, schedule), data, [batch]);
      if (!Number.isFinite(loss)) throw new RangeError(`an attack's training diverged at step ${step + 1}`);
    }
  } finally {
    await stepper.close();
  }
  if (lora !== undefined) mergeAdapters(trained, lora);
}

const EVALUATION_ROWS = 4;

/** Cross-entropy of texts under a student, nats per token: an attacker's own measure. */
export async function textLoss(student: Student, examples: readonly Example[]): Promise<number> {
  const data = trainingData({ examples, released: null }, EVALUATION_ROWS, 0, false);
  const { rows, columns } = data.batches;
  const chunkRows = lossChunkRows(rows * columns, student.config.vocabSize);
  const evaluator = await Evaluator.open(student, data, { temperature: 1, chunkRows });
  try {
    return (await evaluator.evaluate(student)).nll;
  } finally {
    await evaluator.close();
  }
}
