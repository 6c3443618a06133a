// Runs attacks against one bundle: the black-box line at several budgets and seeds, attacks that record at each, all others and every
// control at the largest. Zone: owner.
import type { Example } from '../edge/data/example.js';
import { countTargets } from '../edge/data/example.js';
import { RandomStream } from '../edge/data/random.js';
import type { Adversary, Attack, AttackSettings } from './attack.js';
import { BATCH_TEXTS, type Lessons } from './fit-student.js';
import { blackBoxStudent, type Lab } from './lab.js';
import {
  advantageOf,
  advantages,
  BROKEN,
  type Interval,
  interval,
  type Measures,
  type Verdict,
  verdictOf,
} from './measure.js';
import { recordLessons } from './recorder.js';
import { shareOfHead } from './row-space.js';
import type { Target } from './target.js';

/** One attack, one seed, one budget. */
export interface Trial extends Measures {
  readonly seed: number;
  readonly budgetTokens: number;
  readonly recordedTokens: number;
  readonly queries: number;
  readonly bytes: number;
  readonly seconds: number;
  /** The larger one of the next two. */
  readonly advantage: number;
  readonly advantageAgreement: number;
  readonly advantageKl: number;
  /** Of attacks on the head: directions found, at most the hidden width, and the share of the head's column space that they hold. */
  readonly leak?: { readonly rank: number; readonly headShare: number };
}

export interface Finding {
  readonly attack: string;
  readonly adversary: Adversary;
  readonly scheme: string;
  readonly placement: string;
  /** Why the attack had nothing to work on; null when it had. */
  readonly idle: string | null;
  /** At every budget where the attack is one of a curve, else at the largest. */
  readonly trials: readonly Trial[];
  /** Over the seeds, at the largest budget. */
  readonly advantage: Interval;
  readonly control: { readonly advantage: number; readonly succeeded: boolean };
  readonly verdict: Verdict;
}

export interface Lines {
  readonly budgetTokens: number;
  readonly seed: number;
  readonly steps: number;
  readonly blackBox: Measures;
}

export interface AuditOptions {
  readonly attacks: readonly Attack[];
  /** Rows released per attack, ascending; verdicts are taken at the last, which is all that attacks without a curve run at. */
  readonly budgets: readonly number[];
  readonly seeds: readonly number[];
  /** Least optimiser steps of black-box students, and of attacks that train: `stepsFor`. */
  readonly steps: number;
  readonly learningRate: number;
  readonly onTrial?: (progress: {
    attack: string;
    seed: number;
    budgetTokens: number;
    done: number;
    total: number;
  }) => void;
  readonly signal?: AbortSignal;
  /** Kept between the bundles of one model: what does not depend on the lock is measured once. */
  readonly shared?: SharedRuns;
}

/** A black-box student's measures, and how long it trained. */
interface BlackBox extends Measures {
  readonly seconds: number;
}

/** Black-box lines and controls by seed and budget. Locked teachers release the same rows to 1e-3, and controls run without a lock. */
export interface SharedRuns {
  readonly blackBox: Map<string, BlackBox>;
  readonly controls: Map<string, number>;
}

export function sharedRuns(): SharedRuns {
  return { blackBox: new Map(), controls: new Map() };
}

/** At four texts a step and some 110 rows a text one pass over a million rows takes 2,300. */
const MOST_STEPS = 4000;

/** Steps of whatever trains on `texts`: those asked for, and where one pass over the texts takes more, that pass, up to MOST_STEPS. */
export function stepsFor(asked: number, texts: number): number {
  return Math.max(asked, Math.min(MOST_STEPS, Math.ceil(texts / BATCH_TEXTS)));
}

async function once<T>(known: Map<string, T>, key: string, make: () => Promise<T>): Promise<T> {
  const found = known.get(key) ?? (await make());
  known.set(key, found);
  return found;
}

/** `control` is the unlocked model. Each attack has the budget of a licence of its own. */
export async function auditTarget(
  target: Target,
  control: Target,
  lab: Lab,
  options: AuditOptions,
): Promise<{ findings: Finding[]; lines: Lines[] }> {
  const { attacks, budgets, seeds, shared = sharedRuns() } = options;
  const truth = control.weights.get('lm_head.weight')!;
  const lines: Lines[] = [];
  const trials = new Map<Attack, Trial[]>(attacks.map((attack) => [attack, []]));
  const controls = new Map<Attack, number[]>(attacks.map((attack) => [attack, []]));
  const largest = budgets.at(-1)!;
  const attacksAt = (budget: number): Attack[] => attacks.filter(({ curve }) => curve === true || budget === largest);
  const total = seeds.length * budgets.reduce((sum, budget) => sum + attacksAt(budget).length, 0);
  let done = 0;
  for (const seed of seeds)
    for (const budgetTokens of budgets) {
      options.signal?.throwIfAborted();
      const lessons = await lessonsFrom(target, lab, budgetTokens, seed);
      const steps = stepsFor(options.steps, lessons.examples.length);
      const settings: AttackSettings = { seed, budgetTokens, lessons, steps, learningRate: options.learningRate };
      const blackBox = await once(shared.blackBox, `${seed}/${budgetTokens}`, async () => {
        const started = performance.now();
        const student = await blackBoxStudent(target.config, lessons, settings);
        const seconds = (performance.now() - started) / 1000;
        return { ...(await lab.measure(student)), seconds };
      });
      const { agreement, kl } = blackBox;
      lines.push({ budgetTokens, seed, steps, blackBox: { agreement, kl } });
      for (const attack of attacksAt(budgetTokens)) {
        options.signal?.throwIfAborted();
        options.onTrial?.({ attack: attack.name, seed, budgetTokens, done, total });
        const idle = attack.idleReason(target) !== null;
        const setting = { lab, settings, blackBox, truth };
        trials.get(attack)!.push(idle ? atTheLine(settings, blackBox) : await attempt(attack, target, setting));
        done += 1;
        if (budgetTokens !== largest) continue;
        const relatives = target.ancestor === undefined ? '' : 'with ancestor';
        const against = await once(shared.controls, `${attack.name}/${seed}/${relatives}`, async () => {
          const opponent = attack.control?.(control) ?? control;
          // What was not tried has not succeeded. An attack on what the enclave holds finds nothing to do here, and has the model.
          if ((attack.tooLarge?.(opponent) ?? null) !== null) return 0;
          const tried = await attempt(attack, opponent, setting);
          // An attack on the head has succeeded by the share of its space that it finds.
          return tried.leak?.headShare ?? tried.advantage;
        });
        controls.get(attack)!.push(against);
      }
    }
  const findings = attacks.map((attack) =>
    finding(attack, target, trials.get(attack)!, controls.get(attack)!, largest),
  );
  return { findings, lines };
}

function finding(
  attack: Attack,
  target: Target,
  trials: readonly Trial[],
  controls: readonly number[],
  budget: number,
): Finding {
  const advantage = interval(trials.filter((trial) => trial.budgetTokens === budget).map((trial) => trial.advantage));
  // The worst control decides: code that succeeds only sometimes proves nothing about a lock.
  const control = { advantage: Math.min(...controls), succeeded: Math.min(...controls) >= BROKEN };
  return {
    attack: attack.name,
    adversary: attack.adversary,
    scheme: target.scheme,
    placement: target.placement,
    idle: attack.idleReason(target),
    trials,
    advantage,
    control,
    verdict: verdictOf(advantage, control.succeeded),
  };
}

// Without anything to work on an attacker has the black-box student, which was trained already.
function atTheLine({ seed, budgetTokens, lessons }: AttackSettings, blackBox: BlackBox): Trial {
  const recordedTokens = lessons.released!.reduce((sum, { rows }) => sum + rows, 0);
  const spent = { recordedTokens, queries: lessons.examples.length, bytes: 0 };
  const none = { advantage: 0, advantageAgreement: 0, advantageKl: 0 };
  return { ...blackBox, ...spent, ...none, seed, budgetTokens };
}

interface Setting {
  readonly lab: Lab;
  readonly settings: AttackSettings;
  readonly blackBox: Measures;
  /** The original's head, [vocabulary, width]: what leaks are measured against. */
  readonly truth: Float32Array;
}

async function attempt(attack: Attack, target: Target, { lab, settings, blackBox, truth }: Setting): Promise<Trial> {
  const started = performance.now();
  const { clone, baseline, leak, recordedTokens, queries, bytes } = await attack.run(target, settings);
  const seconds = (performance.now() - started) / 1000;
  const measures = await lab.measure(clone);
  const line = baseline === undefined ? blackBox : lineOver(blackBox, await lab.measure(baseline));
  const { agreement, kl } = advantages(measures, line);
  const { seed, budgetTokens } = settings;
  const advantage = advantageOf(measures, line);
  return {
    ...measures,
    seed,
    budgetTokens,
    recordedTokens,
    queries,
    bytes,
    seconds,
    advantage,
    advantageAgreement: agreement,
    advantageKl: kl,
    ...(leak === undefined
      ? {}
      : { leak: { rank: leak.rank, headShare: shareOfHead(leak, truth, target.config.hiddenSize) } }),
  };
}

/** Nats: an adversary whose own model is that near the teacher has the teacher. */
const TEACHER_ITSELF = 1e-6;

// Over the teacher itself nothing can be gained; there the line is black-box, and the advantage says what the adversary holds.
function lineOver(blackBox: Measures, baseline: Measures): Measures {
  if (baseline.kl < TEACHER_ITSELF) return blackBox;
  return {
    agreement: Math.max(blackBox.agreement, baseline.agreement),
    kl: Math.min(blackBox.kl, baseline.kl),
  };
}

/** What a licence of `budgetTokens` buys: texts in an order drawn from the seed, and their released rows. */
export async function lessonsFrom(target: Target, lab: Lab, budgetTokens: number, seed: number): Promise<Lessons> {
  return recordLessons(target, withinBudget(lab.texts, budgetTokens, seed));
}

function withinBudget(texts: readonly Example[], budgetTokens: number, seed: number): Example[] {
  const order = new RandomStream('audit/texts', seed).shuffle(Int32Array.from(texts, (_, i) => i));
  const chosen: Example[] = [];
  let left = budgetTokens;
  for (const i of order) {
    const rows = countTargets(texts[i]!);
    if (rows > left) continue;
    chosen.push(texts[i]!);
    left -= rows;
  }
  if (chosen.length === 0) throw new RangeError(`a budget of ${budgetTokens} tokens does not cover one text`);
  return chosen;
}
