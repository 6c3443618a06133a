// Ground truth and yardsticks of an audit: the attacker's texts, held-out text with the true teacher's answers, the measuring of clones,
// and the black-box line. Zone: owner: only the owner has the original.
import { createTeacherRows, type TeacherRows } from '../edge/cache/rows.js';
import { type Example, teacherPositions } from '../edge/data/example.js';
import { lossChunkRows } from '../edge/prepare.js';
import { openGate } from '../edge/teacher/gate.js';
import { askRows, forward, type Runner } from '../edge/teacher/pass.js';
import { Evaluator } from '../edge/train/evaluate.js';
import { randomStudent, type Student } from '../edge/train/student.js';
import type { TrainingData } from '../edge/train/training-data.js';
import type { DecoderConfig } from '../model/config.js';
import { fitStudent, type Lessons, trainingData } from './fit-student.js';
import { cloneConfig } from './locked-weights.js';
import type { Measures } from './measure.js';

/** Entries of the true distribution that a KL is taken over; the rest is one bucket. */
const TRUTH_K = 64;
const EVALUATION_ROWS = 4;

export interface Lab {
  /** Public shape of the teacher. */
  readonly config: DecoderConfig;
  /** What the attacker may pass through the teacher, in the order of use. */
  readonly texts: readonly Example[];
  readonly heldOut: TrainingData;
  /** Against the true teacher on held-out text. */
  measure(clone: Student): Promise<Measures>;
}

export interface LabOptions {
  readonly config: DecoderConfig;
  /** The unlocked teacher. */
  readonly original: Runner;
  readonly texts: readonly Example[];
  readonly heldOut: readonly Example[];
}

export async function openLab({ config, original, texts, heldOut }: LabOptions): Promise<Lab> {
  const k = Math.min(TRUTH_K, config.vocabSize - 1);
  const released: TeacherRows[] = [];
  for (const example of heldOut) released.push(await trueRows(original, example, k));
  const data = trainingData({ examples: heldOut, released }, EVALUATION_ROWS, 0, false);
  async function measure(clone: Student): Promise<Measures> {
    const { rows, columns } = data.batches;
    const chunkRows = lossChunkRows(rows * columns, clone.config.vocabSize);
    const evaluator = await Evaluator.open(clone, data, { temperature: 1, chunkRows });
    try {
      const { agreement, kl } = await evaluator.evaluate(clone);
      return { agreement, kl };
    } finally {
      await evaluator.close();
    }
  }
  return { config, texts, heldOut: data, measure };
}

/** The unlocked teacher's top k at an example's positions. */
export async function trueRows(original: Runner, example: Example, k: number): Promise<TeacherRows> {
  const { inputIds } = example;
  const layout = { batch: 1, tokens: inputIds.length, lengths: [inputIds.length] };
  const hidden = await forward(original, openGate, inputIds, layout);
  const rows = await askRows(original, hidden, teacherPositions(example), k, 1);
  if (rows.from === 'enclave') throw new RangeError('the original has no enclave');
  return createTeacherRows(k, rows.topK.ids, rows.topK.logprobs);
}

export interface BlackBoxOptions {
  readonly steps: number;
  readonly learningRate: number;
  readonly seed: number;
}

const taught = new WeakMap<Lessons, Map<string, Promise<Student>>>();

/**
 * The reference line: a student of the teacher's shape, from random weights, taught by the released rows alone. Trained once for the same
 * lessons and options, however many attacks fall back on it; each gets a copy.
 */
export async function blackBoxStudent(
  config: DecoderConfig,
  lessons: Lessons,
  options: BlackBoxOptions,
): Promise<Student> {
  const known = taught.get(lessons) ?? new Map<string, Promise<Student>>();
  taught.set(lessons, known);
  const key = `${options.steps}/${options.learningRate}/${options.seed}`;
  const found = known.get(key) ?? train(config, lessons, options);
  known.set(key, found);
  const { parameters, ...rest } = await found;
  const copies = [...parameters].map(([name, { data, shape }]) => [name, { data: data.slice(), shape }] as const);
  return { ...rest, parameters: new Map(copies) };
}

async function train(config: DecoderConfig, lessons: Lessons, options: BlackBoxOptions): Promise<Student> {
  const student = randomStudent({ ...cloneConfig(config), initializerRange: 0.02 }, options.seed);
  await fitStudent(student, lessons, options);
  return student;
}
