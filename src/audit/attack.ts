// What every attack is: a way from a target to a clone that runs without the enclave, and what it took. Zone: owner. One attack per file
// in attacks/. An attack never sees the original: only its target, its texts and their released rows, and its own seed.
import type { Student } from '../edge/train/student.js';
import type { Lessons } from './fit-student.js';
import type { Target } from './target.js';

/** DESIGN section 2. */
export type Adversary = 'copier' | 'unlicensed' | 'recorder' | 'chooser' | 'ancestor' | 'tamperer' | 'network';

export interface AttackSettings {
  readonly seed: number;
  /** Rows that the licence releases to this attacker. */
  readonly budgetTokens: number;
  /** Optimiser steps of the black-box student of this budget; attacks that train take as many. */
  readonly steps: number;
  readonly learningRate: number;
  /** What a black-box student of the same budget learned from; attackers may use it too. */
  readonly lessons: Lessons;
}

/** Of the hidden width and the head, from released log-probabilities alone. */
export interface Leak {
  /** Directions found; at most the hidden width. */
  readonly rank: number;
  /** Orthonormal basis [rank, vocabulary] of the space that the head's columns are said to span. */
  readonly span: Float64Array;
  /** What each direction adds to a log-probability, root mean square, nats. */
  readonly scales: Float64Array;
}

/** One clone, measured by whoever runs the attack. */
export interface Attempt {
  readonly clone: Student;
  /** What this adversary has without the bundle; where it is better than the black-box student, the advantage is taken over it. */
  readonly baseline?: Student;
  /** What was learned of the model short of a clone. */
  readonly leak?: Leak;
  /** Rows released to the attacker. */
  readonly recordedTokens: number;
  /** Texts passed through the teacher. */
  readonly queries: number;
  /** Kept by the attacker. */
  readonly bytes: number;
}

export interface Attack {
  /** kebab-case, as in `--attacks`. */
  readonly name: string;
  readonly adversary: Adversary;
  /** What it achieves grows with what was recorded: run at every budget, other attacks at the largest alone. */
  readonly curve?: true;
  /** One line for a person. */
  readonly summary: string;
  /** Papers and reports. */
  readonly sources: readonly string[];
  /** Why the attack has nothing to work on here (it is then not run and stands at the black-box line); null when it applies. */
  idleReason(target: Target): string | null;
  /** Why the attack is not even tried on its control, which then has not succeeded; null or absent when it is. */
  tooLarge?(target: Target): string | null;
  /** Where the unlocked model as it is cannot show that the attack works: the weaker one that can. */
  control?(unlocked: Target): Target;
  run(target: Target, settings: AttackSettings): Promise<Attempt>;
}
