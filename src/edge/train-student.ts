// The training half of the job, from a configuration: optimiser, schedule, resume, metrics.
// Zone: edge. What is trained on is prepared elsewhere (`dataFor`).
import { join } from 'node:path';
import type { TokenizerFiles } from '../model/checkpoint/tokenizer-files.js';
import { describeLora } from '../model/lora.js';
import type { Config } from './config.js';
import { hashExamples } from './data/example.js';
import { divergenceFor } from './loss-settings.js';
import { openMetrics } from './metrics.js';
import { lossChunkRows } from './prepare.js';
import { hashFrozen } from './train/adapters.js';
import { type Fingerprint, latestRun } from './train/run-state.js';
import type { Student } from './train/student.js';
import { type TrainerEvents, type TrainingOutcome, train } from './train/trainer.js';
import type { TrainingData } from './train/training-data.js';

/** Trains with the optimiser, schedule and resume settings of the configuration; writes metrics.jsonl and the student. */
export async function trainStudent(
  config: Config,
  student: Student,
  data: TrainingData,
  evaluation: TrainingData | null,
  tokenizer: TokenizerFiles,
  { events = {}, signal }: { events?: TrainerEvents; signal?: AbortSignal },
): Promise<TrainingOutcome> {
  const { rows, columns, widths, batchesPerEpoch } = data.batches;
  const perStep = config.gradient_accumulation_steps;
  const maxSteps = config.max_steps ?? Math.ceil((config.num_train_epochs * batchesPerEpoch) / perStep);
  const resumeFrom = await resumeFolder(config);
  const metrics = await openMetrics(
    join(config.output_dir, 'metrics.jsonl'),
    resumeFrom === null ? null : stepOf(resumeFrom),
  );
  const schedule = {
    learningRate: config.learning_rate,
    maxSteps,
    warmupRatio: config.warmup_ratio,
    type: config.lr_scheduler_type,
    minRatio: config.min_lr_ratio,
  };
  const topK = data.teacher === null ? 0 : data.teacher.k;
  const optimiser = {
    beta1: config.adam_beta1,
    beta2: config.adam_beta2,
    weightDecay: config.weight_decay,
    maxGradNorm: config.max_grad_norm,
  };
  const loss = {
    divergence: divergenceFor(config),
    kdRatio: topK === 0 ? 0 : config.kd_ratio,
    temperature: config.kd_temperature,
    chunkRows: lossChunkRows(rows * columns, student.config.vocabSize),
  };
  return train(
    student,
    data,
    evaluation,
    {
      outputDir: config.output_dir,
      stepper: {
        batch: rows,
        tokens: columns,
        widths,
        topK,
        loss,
        optimiser,
        adamEpsilon: config.adam_epsilon,
        ...(config.threads === null ? {} : { threads: config.threads }),
        ...(student.lora === undefined ? {} : { lora: student.lora }),
      },
      accumulation: perStep,
      schedule,
      loggingSteps: config.logging_steps,
      evalSteps: config.eval_steps,
      saveSteps: config.save_steps,
      saveTotalLimit: config.save_total_limit,
      fingerprint: fingerprintOf(config, student, data, maxSteps),
      resumeFrom,
      tokenizer,
    },
    { metrics, events, ...(signal ? { signal } : {}) },
  );
}

// Settings that may not change between a run and its continuation.
function fingerprintOf(config: Config, student: Student, data: TrainingData, maxSteps: number): Fingerprint {
  const { hiddenSize, numHiddenLayers, vocabSize } = student.config;
  return {
    seed: config.seed,
    max_steps: maxSteps,
    learning_rate: config.learning_rate,
    lr_scheduler_type: config.lr_scheduler_type,
    warmup_ratio: config.warmup_ratio,
    min_lr_ratio: config.min_lr_ratio,
    weight_decay: config.weight_decay,
    adam_beta1: config.adam_beta1,
    adam_beta2: config.adam_beta2,
    adam_epsilon: config.adam_epsilon,
    max_grad_norm: config.max_grad_norm,
    per_device_train_batch_size: config.per_device_train_batch_size,
    gradient_accumulation_steps: config.gradient_accumulation_steps,
    max_length: config.max_length,
    packing: config.packing,
    group_by_length: config.group_by_length,
    kd_ratio: config.kd_ratio,
    loss: divergenceFor(config).label,
    kd_temperature: config.kd_temperature,
    loss_top_k: config.loss_top_k,
    student: `${student.config.modelType} ${numHiddenLayers}x${hiddenSize}, vocabulary ${vocabSize}`,
    dataset_sha256: hashExamples(data.examples),
    teacher: data.teacher?.source ?? null,
    // A checkpoint of adapters means nothing beside other frozen weights.
    lora: student.lora === undefined ? null : describeLora(student.lora),
    frozen_sha256: student.lora === undefined ? null : hashFrozen(student),
  };
}

async function resumeFolder(config: Config): Promise<string | null> {
  const { resume_from_checkpoint: resume, output_dir: outputDir } = config;
  if (resume === false) return null;
  if (resume === true) return latestRun(outputDir);
  return resume;
}

function stepOf(folder: string): number {
  return Number(/checkpoint-(\d+)\/?$/.exec(folder)?.[1] ?? 0);
}
