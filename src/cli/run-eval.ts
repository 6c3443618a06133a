// The body of `distillock eval`: tasks are read, the teacher's price is said, then teacher, student and baseline answer in turn.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TeacherCache } from '../edge/cache/teacher-cache.js';
import { type Config, type ConfigFlags, loadConfig } from '../edge/config.js';
import { countTargets, type Example } from '../edge/data/example.js';
import { checkLicence, dataFor, openStudentFor } from '../edge/distill.js';
import { type ChosenTasks, chooseTasks, TEXT_TASK } from '../edge/evaluate/choose-tasks.js';
import { PlainModel } from '../edge/evaluate/plain-model.js';
import { type PreparedTask, prepareTask } from '../edge/evaluate/prepared-task.js';
import { teacherTextResults, textResults } from '../edge/evaluate/results.js';
import {
  checkBudget,
  openTeacherScorer,
  scorePlain,
  type TeacherCost,
  type TeacherScorer,
} from '../edge/evaluate/score.js';
import { type PreparedData, prepareData } from '../edge/prepare.js';
import { mergeAdapters } from '../edge/train/adapters.js';
import type { Student } from '../edge/train/student.js';
import { openChatTemplate } from '../model/chat-template.js';
import { ADAPTER_CONFIG } from '../model/checkpoint/peft.js';
import { readTokenizerFiles } from '../model/checkpoint/tokenizer-files.js';
import { buildSegments } from '../model/segments.js';
import { openTokenizer } from '../model/tokenizer.js';
import { EnvironmentError } from '../trusted/wire/errors.js';
import { describeData } from './describe-data.js';
import { InterruptedError } from './errors.js';
import { Collected } from './eval/collected.js';
import { showCost, showResult } from './eval/present.js';
import { frequencyOnlyKl } from './experiment/compare.js';
import { type OpenedTeacher, openConfiguredTeacher } from './open-teacher.js';
import type { Context } from './verb.js';
import type { EvalResult, EvalVerbOptions, ModelRole } from './verbs/eval.js';

/** The run's held-out text: whole, whatever `--limit` says, because its rows are in the run's cache as a whole. */
interface HeldOut {
  readonly data: PreparedData;
  readonly examples: readonly Example[];
}

/** What every step needs. */
interface Job {
  readonly options: EvalVerbOptions;
  readonly config: Config;
  readonly teacher: OpenedTeacher;
  readonly context: Context;
  readonly collected: Collected;
}

export async function runEval(options: EvalVerbOptions, context: Context): Promise<EvalResult> {
  const config = chooseStudent(await loadConfig(options.file, options.flags), options.flags);
  const chosen = await chooseTasks(options.tasks);
  for (const line of chosen.notes) context.note(line);
  const teacher = await openConfiguredTeacher(config, context);
  const collected = new Collected(options.predictions);
  try {
    return await evaluate({ options, config, teacher, context, collected }, chosen);
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    throw new InterruptedError('Run the same command again: the likelihoods that were captured are kept.');
  } finally {
    await collected.close();
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

async function evaluate(job: Job, chosen: ChosenTasks): Promise<EvalResult> {
  const { options, config, teacher, context, collected } = job;
  const text = chosen.text ? await readHeldOut(job) : null;
  const { tokenizer, tokenizerFiles } = text?.data ?? (await tokenizerOf(teacher.bundle.dir));
  // Everything that can be refused is, before the teacher is asked.
  const students = await openStudents(job, { tokenizer, tokenizerFiles });
  const configs = [teacher.bundle.config, ...students.map(({ student }) => student.config)];
  const maxTokens = Math.min(...configs.map(({ maxPositionEmbeddings }) => maxPositionEmbeddings));
  const wording = {
    tokenizer,
    template: config.apply_chat_template ? openChatTemplate(tokenizerFiles) : null,
    maxTokens,
  };
  const tasks: PreparedTask[] = [];
  for (const task of chosen.tasks) tasks.push(await prepareTask(task, wording, options.limit));

  const asksTeacher = options.models.includes('teacher');
  const asked = { text: text?.examples ?? null, tasks: asksTeacher ? tasks : [] };
  const scorer = await openTeacherScorer(config, teacher, tokenizer, asked, (file, reason) =>
    context.note(`teacher cache: ${file} is ${reason}; it is captured anew`),
  );
  const chargedBefore = await announce(job, scorer.cost);
  await collected.start();
  const rows = text && (await withProgress(job, 'teacher', TEXT_TASK, (settings) => scorer.textRows(settings)));
  if (asksTeacher) await askTeacher(job, scorer, tasks, rows && { rows, examples: text!.examples }, tokenizer);
  await teacher.unload();
  for (const { role, student } of students) {
    const model = await PlainModel.open(student, context.signal);
    try {
      if (rows !== null) {
        const sums = await withProgress(job, role, TEXT_TASK, (settings) =>
          model.compare(text!.examples, (i) => rows.readExample(i), config.kd_temperature, settings),
        );
        await collected.add(TEXT_TASK, role, textResults(sums));
      }
      for (const prepared of tasks) {
        const score = (settings: Settings) => scorePlain(model, prepared, { ...settings, tokenizer });
        await collected.add(prepared.task.name, role, await withProgress(job, role, prepared.task.name, score));
      }
    } finally {
      await model.close();
    }
  }

  const { licence } = await teacher.client.status();
  const names = [...(text ? [TEXT_TASK] : []), ...tasks.map(({ task }) => task.name)];
  const measures = collected.measures(names, config.seed);
  const own = (measure: string): number | null =>
    measures.find((line) => line.task === TEXT_TASK && line.measure === measure)?.models.student?.value ?? null;
  const result: EvalResult = {
    student: config.adapter_name_or_path ?? config.model_name_or_path,
    baseline: options.models.includes('baseline') ? options.baseline! : null,
    kl: own('kl'),
    nll: own('nll'),
    agreement: own('agreement'),
    ...frequencies(job, text, rows),
    measures,
    cut: Object.fromEntries(tasks.map(({ task, cut }) => [task.name, cut])),
    charged: (licence?.chargedTokens ?? 0) - chargedBefore,
    budgetLeft: licence?.remainingTokens ?? null,
  };
  showResult(result, tasks, collected, context);
  return result;
}

async function readHeldOut({ config, teacher, context }: Job): Promise<HeldOut> {
  const data = await prepareData(config, teacher.bundle.dir);
  if (data.evaluation === null)
    throw new EnvironmentError('no-evaluation', 'there is no held-out text: set eval_dataset or validation_split');
  for (const line of describeData('held-out text', data.evaluation.report, config)) context.note(line);
  return { data, examples: data.evaluation.examples };
}

type Surroundings = Pick<PreparedData, 'tokenizer' | 'tokenizerFiles'>;

async function tokenizerOf(folder: string): Promise<Surroundings> {
  const tokenizerFiles = await readTokenizerFiles(folder);
  return { tokenizer: await openTokenizer(tokenizerFiles), tokenizerFiles };
}

async function openStudents(job: Job, data: Surroundings): Promise<{ role: ModelRole; student: Student }[]> {
  const { models, baseline, file, flags } = job.options;
  const students: { role: ModelRole; student: Student }[] = [];
  if (models.includes('student')) students.push({ role: 'student', student: await openMerged(job.config, data) });
  if (models.includes('baseline')) {
    // The run's adapters are the student's.
    const config = {
      ...(await loadConfig(file, { ...flags, model_name_or_path: baseline })),
      adapter_name_or_path: null,
    };
    students.push({ role: 'baseline', student: await openMerged(config, data) });
  }
  // Throws for shapes that the runtime does not compute.
  for (const { student } of students) buildSegments(student.config);
  return students;
}

/** Adapters become part of the weights: what is evaluated is one model. */
async function openMerged(config: Config, data: Parameters<typeof openStudentFor>[1]): Promise<Student> {
  const student = await openStudentFor(config, data);
  return student.lora === undefined ? student : mergeAdapters(student, student.lora);
}

/** Says what the teacher's answers will cost and refuses what the budget cannot pay; gives what was charged so far. */
async function announce({ teacher, context }: Job, cost: TeacherCost): Promise<number> {
  if (cost.rows + cost.generated > 0) await checkLicence(teacher);
  const { licence } = await teacher.client.status();
  if (licence !== null) checkBudget(cost, licence.remainingTokens);
  showCost(cost, licence?.remainingTokens ?? null, context);
  return licence?.chargedTokens ?? 0;
}

async function askTeacher(
  job: Job,
  scorer: TeacherScorer,
  tasks: readonly PreparedTask[],
  text: { rows: TeacherCache; examples: readonly Example[] } | null,
  tokenizer: Surroundings['tokenizer'],
): Promise<void> {
  const { collected, config } = job;
  // Rows at another temperature do not say how likely the text is at 1.
  if (text !== null && config.kd_temperature === 1)
    await collected.add(
      TEXT_TASK,
      'teacher',
      teacherTextResults(text.examples, (i) => text.rows.readExample(i)),
    );
  for (const prepared of tasks) {
    const score = (settings: Settings) => scorer.score(prepared, { ...settings, tokenizer });
    await collected.add(prepared.task.name, 'teacher', await withProgress(job, 'teacher', prepared.task.name, score));
  }
}

interface Settings {
  readonly signal: AbortSignal;
  onProgress(done: number, total: number): void;
}

async function withProgress<T>(
  { context }: Job,
  role: ModelRole,
  task: string,
  work: (settings: Settings) => Promise<T>,
): Promise<T> {
  const progress = context.progress(`${role}, ${task}`);
  const onProgress = (tokens: number, totalTokens: number): void =>
    progress.update({ tokens, totalTokens, unit: role === 'teacher' ? 'answers' : 'examples' });
  try {
    return await work({ signal: context.signal, onProgress });
  } finally {
    progress.stop();
  }
}

// The line of a student that learned token frequencies only, and how many tokens were measured.
function frequencies(
  { config, teacher }: Job,
  text: HeldOut | null,
  cache: TeacherCache | null,
): Pick<EvalResult, 'targets' | 'frequencyOnly'> {
  if (text === null) return { targets: null, frequencyOnly: null };
  const held = dataFor(config, text.data, text.examples, 'evaluation', cache);
  const kl = frequencyOnlyKl(text.data.train, held, teacher.bundle.config.vocabSize);
  const targets = text.examples.reduce((sum, example) => sum + countTargets(example), 0);
  return { targets, frequencyOnly: { kl } };
}
