// A training run small enough for every test: random student, random text, made-up teacher rows. Not a test itself.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTeacherRows, type TeacherRows } from '../../src/edge/cache/rows.js';
import { type Config, createConfig } from '../../src/edge/config.js';
import { countTargets, createExample, type Example } from '../../src/edge/data/example.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { type MetricsLine, readMetrics } from '../../src/edge/metrics.js';
import { batchesFor } from '../../src/edge/prepare.js';
import { randomStudent, type Student } from '../../src/edge/train/student.js';
import type { TrainerEvents, TrainingOutcome } from '../../src/edge/train/trainer.js';
import type { TrainingData } from '../../src/edge/train/training-data.js';
import { trainStudent } from '../../src/edge/train-student.js';
import { openSafetensors } from '../../src/model/checkpoint/safetensors.js';
import { readTokenizerFiles } from '../../src/model/checkpoint/tokenizer-files.js';
import { tinyConfig } from '../owner/tiny-model.js';

const k = 4;

export function tinyRunConfig(outputDir: string, changes: Partial<Config> = {}): Config {
  return createConfig({
    model_name_or_path: 'tiny',
    teacher_model_name_or_path: 'teacher.lock',
    dataset: 'text',
    output_dir: outputDir,
    max_length: 32,
    loss_top_k: k,
    max_steps: 12,
    per_device_train_batch_size: 2,
    learning_rate: 1e-2,
    logging_steps: 3,
    eval_steps: 5,
    save_steps: 100,
    ...changes,
  });
}

/** `count` texts of 6 to 24 tokens; the same for the same count. */
export function randomExamples(count: number): Example[] {
  const random = new RandomStream('test/examples', count);
  return Array.from({ length: count }, () => {
    const ids = new Int32Array(6 + Math.floor(random.uniform() * 19)).map(() =>
      Math.floor(random.uniform() * tinyConfig.vocabSize),
    );
    const mask = Uint8Array.from(ids, (_, t) => (t > 0 && random.uniform() < 0.8 ? 1 : 0));
    return createExample(ids, mask);
  });
}

/** Rows that depend on nothing but the example's number. */
export function madeUpRows(example: Example, index: number): TeacherRows {
  const random = new RandomStream('test/teacher', index);
  const rows = countTargets(example);
  const ids = new Int32Array(rows * k);
  const logprobs = new Float32Array(rows * k);
  for (let row = 0; row < rows; row += 1) {
    const first = Math.floor(random.uniform() * tinyConfig.vocabSize);
    for (let i = 0; i < k; i += 1) {
      ids[row * k + i] = (first + 7 * i) % tinyConfig.vocabSize;
      logprobs[row * k + i] = Math.log([0.5, 0.2, 0.1, 0.05][i]!);
    }
  }
  return createTeacherRows(k, ids, logprobs);
}

export function tinyData(config: Config, purpose: 'train' | 'evaluation', count: number): TrainingData {
  const examples = randomExamples(count);
  return {
    examples,
    batches: batchesFor(config, examples, purpose, 0),
    teacher: { k, source: 'made up', readExample: (i) => madeUpRows(examples[i]!, i) },
  };
}

export interface TinyRun {
  readonly config: Config;
  readonly student: Student;
  readonly outcome: TrainingOutcome;
}

export interface TinyRunOptions {
  readonly examples?: number;
  readonly data?: TrainingData;
  /** Makes the student out of the random one. */
  readonly adapt?: (student: Student) => Student;
  /** Abort when this many steps are done. */
  readonly stopAfter?: number;
  readonly events?: TrainerEvents;
}

/** Trains in `outputDir`, or goes on there when `changes` say resume. */
export async function tinyRun(
  outputDir: string,
  changes: Partial<Config> = {},
  options: TinyRunOptions = {},
): Promise<TinyRun> {
  const config = tinyRunConfig(outputDir, changes);
  const random = randomStudent(tinyConfig, config.seed);
  const student = options.adapt?.(random) ?? random;
  const data = options.data ?? tinyData(config, 'train', options.examples ?? 13);
  const controller = new AbortController();
  const events: TrainerEvents = {
    ...options.events,
    onStep(report) {
      options.events?.onStep?.(report);
      if (report.step === options.stopAfter) controller.abort();
    },
  };
  const tokenizer = await readTokenizerFiles('assets/stories260k');
  const evaluation = tinyData(config, 'evaluation', 5);
  const { signal } = controller;
  const outcome = await trainStudent(config, student, data, evaluation, tokenizer, { events, signal });
  return { config, student, outcome };
}

/** Every tensor of a safetensors file by name. */
export async function tensorsOf(file: string): Promise<Map<string, Float32Array>> {
  const source = await openSafetensors(file);
  const found = new Map<string, Float32Array>();
  for (const { name } of source.list()) found.set(name, await source.read(name));
  await source.close();
  return found;
}

/** metrics.jsonl without the speeds, which no two runs share. */
export async function metricsOf(outputDir: string): Promise<MetricsLine[]> {
  return (await readMetrics(join(outputDir, 'metrics.jsonl'))).map(({ tokens_per_s: _, ...line }) => line);
}

export async function checkpointsIn(outputDir: string): Promise<string[]> {
  return (await readdir(outputDir)).filter((name) => name.startsWith('checkpoint-')).sort();
}

export async function stepsOf(outputDir: string): Promise<number> {
  const state = await readFile(join(outputDir, 'trainer_state.json'), 'utf8');
  return (JSON.parse(state) as { step: number }).step;
}
