// Puts prepared tasks to a model: a student's or baseline's own segments, or a licensed teacher within its budget. Zone: edge.
// The teacher's likelihoods go through its cache, so a second evaluation charges nothing; generated tokens are charged every time.
import type { Tokenizer } from '../../model/tokenizer.js';
import { PolicyError } from '../../trusted/wire/errors.js';
import type { TeacherCache } from '../cache/teacher-cache.js';
import type { Config } from '../config.js';
import type { Example } from '../data/example.js';
import { captureInto, checkLicence, licensedSource, openCacheFor } from '../distill.js';
import type { Accelerator } from '../teacher/accelerator.js';
import { missingRows } from '../teacher/capture.js';
import { type Gate, openGate } from '../teacher/gate.js';
import type { LockedTeacher } from '../teacher/locked-teacher.js';
import { generateText } from './generate-text.js';
import type { Ask, AskAnswer } from './likelihood-plan.js';
import { scoreFromTopK } from './measures/likelihood-bound.js';
import type { PassOptions, PlainModel } from './plain-model.js';
import type { PreparedGeneration, PreparedTask } from './prepared-task.js';
import { choiceResults, type DocumentResult, generationResults } from './results.js';

export interface ScoreOptions extends PassOptions {
  readonly tokenizer: Tokenizer;
}

/** A student's or baseline's answers. */
export async function scorePlain(
  model: PlainModel,
  prepared: PreparedTask,
  options: ScoreOptions,
): Promise<DocumentResult[]> {
  if (prepared.kind === 'choices') return choiceResults(prepared, await model.likelihoods(prepared.plan.asks, options));
  return generationResults(prepared, await generateAll(model.accelerator, openGate, prepared, options));
}

/** What the teacher's answers will cost, in positions of its budget. */
export interface TeacherCost {
  /** Positions whose rows the cache lacks. */
  readonly rows: number;
  /** Tokens to generate, at most. */
  readonly generated: number;
}

/** A licensed teacher that has been asked what it lacks and nothing yet. */
export interface TeacherScorer {
  readonly cost: TeacherCost;
  /** The rows of the held-out text, captured where they are missing. */
  textRows(options: PassOptions): Promise<TeacherCache>;
  score(prepared: PreparedTask, options: ScoreOptions): Promise<DocumentResult[]>;
}

interface CachedRows {
  readonly config: Config;
  readonly examples: readonly Example[];
  readonly cache: TeacherCache;
}

/** Text at the configuration's temperature, tasks at 1. `onSetAside` hears of damaged cache files. */
export async function openTeacherScorer(
  config: Config,
  teacher: LockedTeacher,
  tokenizer: Tokenizer,
  { text, tasks }: { text: readonly Example[] | null; tasks: readonly PreparedTask[] },
  onSetAside: (file: string, reason: string) => void,
): Promise<TeacherScorer> {
  const open = async (own: Config, examples: readonly Example[]): Promise<CachedRows> => {
    const cache = await openCacheFor(own, licensedSource(own, teacher), tokenizer, examples, onSetAside);
    cache.verify();
    return { config: own, examples, cache };
  };
  const fill = async ({ config: own, examples, cache }: CachedRows, options: PassOptions): Promise<TeacherCache> => {
    const { signal, onProgress } = options;
    const { interrupted } = await captureInto(cache, own, licensedSource(own, teacher), examples, {
      onProgress: ({ rows, totalRows }) => onProgress?.(rows, totalRows),
      ...(signal ? { signal } : {}),
    });
    if (interrupted) throw signal!.reason;
    return cache;
  };
  const ofText = text && (await open(config, text));
  const byTask = new Map<PreparedTask, CachedRows>();
  let generated = 0;
  for (const prepared of tasks) {
    if (prepared.kind === 'generation') generated += prepared.items.length * prepared.task.maxGenToks;
    else {
      const examples = prepared.plan.asks.map(({ example }) => example);
      byTask.set(prepared, await open({ ...config, kd_temperature: 1 }, examples));
    }
  }
  const caches = [...(ofText ? [ofText] : []), ...byTask.values()];
  const rows = caches.reduce((sum, { examples, cache }) => sum + missingRows(examples, cache), 0);
  return {
    cost: { rows, generated },
    textRows: (options) => fill(ofText!, options),
    async score(prepared, options) {
      if (prepared.kind === 'choices') {
        const cache = await fill(byTask.get(prepared)!, options);
        return choiceResults(prepared, readAnswers(prepared.plan.asks, cache));
      }
      await checkLicence(teacher);
      const gate = await teacher.gate({ topK: 1, temperature: 1 });
      const responses = await generateAll(await teacher.accelerator(), gate, prepared, options);
      return generationResults(prepared, responses);
    },
  };
}

/** Throws PolicyError('budget-short') when what must be released exceeds what is left; nothing is charged then. */
export function checkBudget({ rows, generated }: TeacherCost, left: number): void {
  const most = rows + generated;
  if (most <= left) return;
  const parts = generated === 0 ? '' : ` (${generated} of them for generated text, at most)`;
  const message = `the teacher's answers take ${most} positions${parts} and the licence has ${left} left; use --limit, fewer --tasks, or --models without the teacher`;
  throw new PolicyError('budget-short', message, { needed: most, left });
}

function readAnswers(asks: readonly Ask[], cache: TeacherCache): AskAnswer[] {
  return asks.map(({ tokens }, index) => {
    const rows = cache.readExample(index);
    return tokens.map((asked, row) => asked.map((token) => scoreFromTopK(rows, row, token)));
  });
}

async function generateAll(
  accelerator: Accelerator,
  gate: Gate,
  { task, prompts }: PreparedGeneration,
  { tokenizer, signal, onProgress }: ScoreOptions,
): Promise<string[]> {
  const stopIds = new Set(accelerator.config.eosTokenIds);
  if (tokenizer.eosTokenId !== null) stopIds.add(tokenizer.eosTokenId);
  const settings = { maxNewTokens: task.maxGenToks, until: task.until, stopIds, ...(signal ? { signal } : {}) };
  const responses: string[] = [];
  for (const prompt of prompts) {
    responses.push(await generateText(accelerator, gate, tokenizer, prompt, settings));
    signal?.throwIfAborted();
    onProgress?.(responses.length, prompts.length);
  }
  return responses;
}
