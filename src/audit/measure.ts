// What an attack is worth: agreement and KL against the true teacher, as a share of the way from black-box to no shield.
// Zone: owner. DESIGN section 2: advantage = (clone − blackbox) / (noshield − blackbox); 0 is ideal, 1 is the bare model.

/** Of a model against the true teacher, on held-out text. */
export interface Measures {
  /** Share of positions with the teacher's most likely token, 0 to 1. */
  readonly agreement: number;
  /** KL(teacher‖model), nats per token, over the teacher's top k and one tail bucket. */
  readonly kl: number;
}

/** The bare teacher: what an attacker has where nothing is shielded. */
export const NO_SHIELD: Measures = { agreement: 1, kl: 0 };

export type Verdict = 'held' | 'weakened' | 'broken' | 'inconclusive';

/** Advantages up to this count as none, from `BROKEN` on as all that matters. */
export const HELD = 0.05;
export const BROKEN = 0.5;

/**
 * Advantage of a clone over the black-box student, by agreement and by KL. A clone worse than black-box has a negative one: the attacker
 * would have taken the black-box student. NaN when the black-box student is already as good as the teacher: nothing is left to protect.
 */
export function advantages(clone: Measures, blackBox: Measures): { readonly agreement: number; readonly kl: number } {
  const share = (got: number, line: number, bare: number): number =>
    bare === line ? Number.NaN : (got - line) / (bare - line);
  return {
    agreement: share(clone.agreement, blackBox.agreement, NO_SHIELD.agreement),
    kl: share(clone.kl, blackBox.kl, NO_SHIELD.kl),
  };
}

/** The larger one of both advantages: an attack that gains by either measure has gained. */
export function advantageOf(clone: Measures, blackBox: Measures): number {
  const { agreement, kl } = advantages(clone, blackBox);
  return Math.max(agreement, kl);
}

export interface Interval {
  readonly mean: number;
  /** Half the width of the 95 % interval of the mean; null for a single value. */
  readonly half: number | null;
  readonly worst: number;
}

// Two-sided 95 % quantiles of Student's t for 1 … 10 degrees of freedom; beyond that the normal's is within 12 %.
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/** Mean of the values of several seeds, its 95 % interval by Student's t, and the largest (the owner's worst case). */
export function interval(values: readonly number[]): Interval {
  const n = values.length;
  if (n === 0) throw new RangeError('no values');
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const worst = Math.max(...values);
  if (n === 1) return { mean, half: null, worst };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { mean, half: (T95[n - 2] ?? 1.96) * Math.sqrt(variance / n), worst };
}

/** By the worst seed. Without a control that succeeded nothing can be said to have held. */
export function verdictOf(advantage: Interval, controlSucceeded: boolean): Verdict {
  if (advantage.worst >= BROKEN) return 'broken';
  if (advantage.worst > HELD) return 'weakened';
  return controlSucceeded && !Number.isNaN(advantage.worst) ? 'held' : 'inconclusive';
}
