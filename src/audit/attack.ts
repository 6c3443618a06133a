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
  /** Optimiser steps of the black-box student; attacks that train take as many. */
  readonly steps: number;
  readonly learningRate: number;
  /** What a black-box student of the same budget learned from; attackers may use it too. */
  readonly lessons: Lessons;
}

/** One clone, measured by whoever runs the attack. */
export interface Attempt {
  readonly clone: Student;
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
  /** One line for a person. */
  readonly summary: string;
  /** Papers and reports. */
  readonly sources: readonly string[];
  /** Why the attack has nothing to work on here (it is then not run and stands at the black-box line); null when it applies. */
  idleReason(target: Target): string | null;
  run(target: Target, settings: AttackSettings): Promise<Attempt>;
}
