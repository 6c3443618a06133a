// Which of several continuations a model finds most likely: by the sum of log-probabilities, and by the sum per character. Zone: edge.
// lm-eval's `acc` and `acc_norm`. A licensed teacher releases its top k only; what lies outside comes as an upper bound, so that a
// choice may be right for certain, wrong for certain, or open.

/** A choice as a model scores it. */
export interface ScoredChoice {
  readonly text: string;
  /** ln p(choice | context), summed over its tokens. With `bounded` tokens it is an upper bound. */
  readonly logprob: number;
  /** Tokens outside the teacher's top k. */
  readonly bounded: number;
}

export interface Chosen {
  /** The choice with the highest score, bounds taken as scores; the first of equals. */
  readonly index: number;
  /** Whether the right choice wins whatever the bounded tokens are. */
  readonly certainlyRight: boolean;
  /** Whether it can win. Without bounds both say the same. */
  readonly possiblyRight: boolean;
}

/** By the sum of log-probabilities (`acc`). */
export function chooseBySum(choices: readonly ScoredChoice[], target: number): Chosen {
  return choose(choices, target, () => 1);
}

/** By the sum divided by the characters of the choice (`acc_norm`), as Python counts them: code points. */
export function chooseByLength(choices: readonly ScoredChoice[], target: number): Chosen {
  return choose(choices, target, ({ text }) => Math.max(1, [...text].length));
}

function choose(choices: readonly ScoredChoice[], target: number, lengthOf: (choice: ScoredChoice) => number): Chosen {
  const most = choices.map((choice) => choice.logprob / lengthOf(choice));
  const least = choices.map(({ bounded }, i) => (bounded > 0 ? Number.NEGATIVE_INFINITY : most[i]!));
  const index = most.reduce((best, score, i) => (score > most[best]! ? i : best), 0);
  // The first of equals wins.
  const wins = (own: number, others: readonly number[]): boolean =>
    others.every((other, i) => i === target || (i < target ? own > other : own >= other));
  return { index, certainlyRight: wins(least[target]!, most), possiblyRight: wins(most[target]!, least) };
}
