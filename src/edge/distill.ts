// The data owner's whole job: text → teacher cache → student. Everything happens on this device.
// Zone: edge. DESIGN section 8.
import { readdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { ADAPTER_WEIGHTS } from '../model/checkpoint/peft.js';
import type { TokenizerFiles } from '../model/checkpoint/tokenizer-files.js';
import { lockRunFolder } from '../model/run-lock.js';
import { openTokenizer, type Tokenizer } from '../model/tokenizer.js';
import { EnvironmentError, MalformedError, PolicyError, UnsupportedError } from '../trusted/wire/errors.js';
import { MAX_RELEASE_ENTRIES } from '../trusted/wire/limits.js';
import { openTeacherCache, type TeacherCache } from './cache/teacher-cache.js';
import type { Config } from './config.js';
import { countTargets, type Example, hashExamples } from './data/example.js';
import { continuedAdapters, loraFor } from './lora-settings.js';
import { batchesFor, type Prepared, type PreparedData, prepareData } from './prepare.js';
import type { Accelerator } from './teacher/accelerator.js';
import { type CaptureOptions, type CaptureOutcome, captureTeacher } from './teacher/capture.js';
import { type Gate, lazyGate } from './teacher/gate.js';
import type { LockedTeacher } from './teacher/locked-teacher.js';
import { trainedCount, withAdapters } from './train/adapters.js';
import { openStudent, parameterCount, randomBase, type Student } from './train/student.js';
import type { TrainerEvents, TrainingOutcome } from './train/trainer.js';
import type { TrainingData } from './train/training-data.js';
import { trainStudent } from './train-student.js';

/** Tokens per forward pass, padding included: enough to keep the accelerator's matrix products efficient. */
export const acceleratorBatchTokens = 1024;
/** An enclave that streams its weights past a batch wants as many as a share of its memory takes. */
const enclaveBatchTokens = 16_384;
const enclaveBatchShare = 1 / 3;

function batchTokensFor(config: Config, { segments, config: { hiddenSize } }: LockedTeacher['bundle']): number {
  if (!segments.every(({ place }) => place === 'enclave')) return acceleratorBatchTokens;
  const fitting = Math.floor((config.tee_memory * 1e6 * enclaveBatchShare) / (4 * hiddenSize));
  const releasable = Math.floor(MAX_RELEASE_ENTRIES / config.loss_top_k);
  return Math.max(1, Math.min(enclaveBatchTokens, fitting, releasable));
}

/** A teacher as the job sees it: where its answers come from and what they are filed under. */
export interface TeacherSource {
  /** Called only when something must be captured. */
  accelerator(): Promise<Accelerator>;
  /** Called when nothing more will be captured: training needs the memory. */
  unload(): Promise<void>;
  readonly gate: Gate;
  /** Names the answers in the cache: the bundle's id for a licensed teacher. */
  readonly cacheId: string;
  readonly vocabSize: number;
  /** Tokens per forward pass, padding included. */
  readonly batchTokens: number;
}

export interface DistillEvents extends TrainerEvents {
  onData?(data: PreparedData): void;
  onCapture?(purpose: 'train' | 'evaluation', progress: Parameters<NonNullable<CaptureOptions['onProgress']>>[0]): void;
  /** A cache shard that was torn or altered and is captured anew. */
  onSetAside?(file: string, reason: string): void;
}

export interface DistillOptions {
  readonly events?: DistillEvents;
  readonly signal?: AbortSignal;
}

export interface DistillOutcome {
  readonly training: TrainingOutcome | null;
  readonly captured: { readonly train: CaptureOutcome | null; readonly evaluation: CaptureOutcome | null };
  /** Weights, adapters included, and how many of them training changes. */
  readonly student: { readonly parameters: number; readonly trained: number };
  /** Stopped before the end; run again with resume_from_checkpoint to go on. */
  readonly interrupted: boolean;
}

/** Distils with a licensed teacher: captures what the cache lacks, then trains. `config.output_dir` is held for the duration. */
export async function distill(
  config: Config,
  teacher: LockedTeacher,
  options: DistillOptions = {},
): Promise<DistillOutcome> {
  const release = await lockRunFolder(config.output_dir);
  try {
    await refuseUsedFolder(config);
    const data = await prepareData(config, teacher.bundle.dir);
    options.events?.onData?.(data);
    const student = await openTrainee(config, data);
    return await distillFrom(config, licensedSource(config, teacher), data, student, options);
  } finally {
    await release();
  }
}

/** A licensed teacher as a source. The licence is asked for when the first row must be released: cached text needs none. */
export function licensedSource(config: Config, teacher: LockedTeacher): TeacherSource {
  return {
    accelerator: teacher.accelerator,
    unload: teacher.unload,
    gate: lazyGate(async () => {
      await checkLicence(teacher);
      return teacher.gate({ topK: config.loss_top_k, temperature: config.kd_temperature });
    }),
    cacheId: teacher.bundle.bundleId,
    vocabSize: teacher.bundle.config.vocabSize,
    batchTokens: batchTokensFor(config, teacher.bundle),
  };
}

/** The job for any teacher, e.g. an unlocked one as a reference, or an attacker's. The caller holds the output folder. */
export async function distillFrom(
  config: Config,
  source: TeacherSource,
  data: PreparedData,
  student: Student,
  options: DistillOptions = {},
): Promise<DistillOutcome> {
  const { events = {}, signal } = options;
  const taught = config.kd_ratio > 0;
  const evaluation = data.evaluation && (await capture(config, source, data, data.evaluation, 'evaluation', options));
  const training = taught ? await capture(config, source, data, data.train, 'train', options) : null;
  await source.unload();
  const captured = { train: training?.outcome ?? null, evaluation: evaluation?.outcome ?? null };
  const outcome = { captured, student: { parameters: parameterCount(student), trained: trainedCount(student) } };
  if (captured.train?.interrupted || captured.evaluation?.interrupted)
    return { ...outcome, training: null, interrupted: true };
  const trainingData = dataFor(config, data, data.train.examples, 'train', training?.cache ?? null);
  const evaluationData = evaluation && dataFor(config, data, data.evaluation!.examples, 'evaluation', evaluation.cache);
  const result = await trainStudent(config, student, trainingData, evaluationData, data.tokenizerFiles, {
    events,
    ...(signal ? { signal } : {}),
  });
  return { ...outcome, training: result, interrupted: result.interrupted };
}

/** Opens the student; refuses one whose tokenizer is not the teacher's. Throws MalformedError('tokenizer-mismatch'). */
export async function openStudentFor(
  config: Config,
  data: Pick<PreparedData, 'tokenizer' | 'tokenizerFiles'>,
): Promise<Student> {
  const student = await openStudent(config.model_name_or_path, config.seed, config.adapter_name_or_path);
  if (student.tokenizer !== null) {
    const own = await openTokenizer(student.tokenizer);
    if (own.hash !== data.tokenizer.hash && !sameVocabulary(student.tokenizer, data.tokenizerFiles))
      throw new MalformedError(
        'tokenizer-mismatch',
        `${config.model_name_or_path} has another tokenizer than the teacher; start from a student with the teacher's tokenizer, or from a config.json`,
        { student: config.model_name_or_path },
      );
  }
  if (config.max_length > student.config.maxPositionEmbeddings)
    throw new UnsupportedError(
      'max-length',
      `max_length ${config.max_length} exceeds the student's max_position_embeddings ${student.config.maxPositionEmbeddings}`,
    );
  return student;
}

/** Opens the student as training has it: with use_peft adapters, new ones unless it has some already. Throws MalformedError('lora-…'). */
export async function openTrainee(config: Config, data: PreparedData): Promise<Student> {
  const student = await openStudentFor(config, data);
  if (student.lora !== undefined) return continuedAdapters(config, student, student.lora);
  if (!config.use_peft) return student;
  if (student.tokenizer === null) throw randomBase(config.model_name_or_path);
  const lora = loraFor(config, student.config);
  return { ...withAdapters(student, lora, config.seed), base: config.model_name_or_path };
}

// tokenizer.json files that differ only in layout still give the same ids when vocabulary and merges are the same.
function sameVocabulary(a: TokenizerFiles, b: TokenizerFiles): boolean {
  const model = (files: TokenizerFiles): string => {
    const { model } = JSON.parse(Buffer.from(files['tokenizer.json']).toString('utf8')) as {
      model: { vocab: unknown; merges: unknown };
    };
    return JSON.stringify([model.vocab, model.merges]);
  };
  return model(a) === model(b);
}

/** Throws PolicyError (`enclave-<state>`) that says what to do unless the enclave is unlocked. */
export async function checkLicence(teacher: LockedTeacher): Promise<void> {
  const { state } = await teacher.client.status();
  if (state === 'unlocked') return;
  const what: Readonly<Record<string, string>> = {
    fresh:
      'the enclave has no licence; send its evidence to the owner and unlock it with the grant (distillock enclave)',
    attested: 'the enclave has no licence yet; unlock it with the grant that the owner sent',
    exhausted: 'the licence is used up; ask the owner for a new one',
    expired: 'the licence has expired; ask the owner for a new one',
    destroyed: 'the teacher was destroyed on this device',
  };
  throw new PolicyError(`enclave-${state}`, what[state] ?? `the enclave is ${state}`, { state });
}

/** Opens the cache for some examples and captures what it lacks. */
export async function capture(
  config: Config,
  source: TeacherSource,
  data: PreparedData,
  { examples }: Prepared,
  purpose: 'train' | 'evaluation',
  options: DistillOptions,
): Promise<{ cache: TeacherCache; outcome: CaptureOutcome }> {
  const cache = await openCacheFor(config, source, data.tokenizer, examples, options.events?.onSetAside);
  const outcome = await captureInto(cache, config, source, examples, {
    onProgress: (progress) => options.events?.onCapture?.(purpose, progress),
    ...(options.signal ? { signal: options.signal } : {}),
  });
  return { cache, outcome };
}

/** The cache of these examples' rows at the configuration's top k and temperature, with whatever it has. */
export function openCacheFor(
  config: Config,
  source: TeacherSource,
  tokenizer: Pick<Tokenizer, 'hash'>,
  examples: readonly Example[],
  onSetAside?: DistillEvents['onSetAside'],
): Promise<TeacherCache> {
  const key = {
    bundleId: source.cacheId,
    tokenizerHash: tokenizer.hash,
    textHash: hashExamples(examples),
    k: config.loss_top_k,
    temperature: config.kd_temperature,
    precision: config.cache_precision,
    vocabSize: source.vocabSize,
  };
  return openTeacherCache(config.cache_dir, key, examples.map(countTargets), {
    onSetAside: ({ file, reason }) => onSetAside?.(file, reason),
  });
}

/** Captures what a cache of `openCacheFor` lacks. */
export function captureInto(
  cache: TeacherCache,
  config: Config,
  source: TeacherSource,
  examples: readonly Example[],
  options: Pick<CaptureOptions, 'onProgress' | 'signal'>,
): Promise<CaptureOutcome> {
  return captureTeacher(source.accelerator, source.gate, examples, cache, {
    k: config.loss_top_k,
    temperature: config.kd_temperature,
    batchTokens: source.batchTokens,
    ...options,
  });
}

/** Examples, their batches and the cache's rows, as training wants them. */
export function dataFor(
  config: Config,
  data: PreparedData,
  examples: readonly Example[],
  purpose: 'train' | 'evaluation',
  cache: TeacherCache | null,
): TrainingData {
  const padTokenId = data.tokenizer.padTokenId ?? data.tokenizer.eosTokenId ?? 0;
  return {
    examples,
    batches: batchesFor(config, examples, purpose, padTokenId),
    teacher: cache && {
      k: config.loss_top_k,
      source: basename(cache.stats().folder),
      readExample: (example) => cache.readExample(example),
    },
  };
}

// A finished or interrupted run is never overwritten by a new one.
async function refuseUsedFolder({ output_dir: outputDir, resume_from_checkpoint: resume }: Config): Promise<void> {
  if (resume !== false) return;
  const files = await readdir(outputDir).catch((): string[] => []);
  const found = files.find(
    (file) => /^checkpoint-\d+$/.test(file) || file === 'model.safetensors' || file === ADAPTER_WEIGHTS,
  );
  if (found === undefined) return;
  throw new EnvironmentError(
    'output-dir-used',
    `${outputDir} already holds ${found} of an earlier run; set resume_from_checkpoint: true to go on, or choose another output_dir`,
    { outputDir },
  );
}
