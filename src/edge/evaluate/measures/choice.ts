// Which of several continuations a model finds most likely: by the sum of log-probabilities, and by the sum per character. Zone: edge.
// lm-eval's `acc` and `acc_norm`. A licensed teacher releases its top k only; what lies outside comes as an upper bound.

/** A choice as a model scores it. */
export interface ScoredChoice {
  readonly text: string;
  /** ln p(choice | context), summed over its tokens. With `bounded` tokens it is an upper bound. */
  readonly logprob: number;
  /** Tokens outside the teacher's top k. */
  readonly bounded: number;
}

export interface Chosen {
  /** The most likely choice; the first of equals. */
  readonly index: number;
  /** False when a bound had to stand in and another choice could be the most likely one. */
  readonly certain: boolean;
}

/** By the sum of log-probabilities (`acc`). */
export function chooseBySum(choices: readonly ScoredChoice[]): Chosen {
  return choose(choices, () => 1);
}

/** By the sum divided by the characters of the choice (`acc_norm`), as Python counts them: code points. */
export function chooseByLength(choices: readonly ScoredChoice[]): Chosen {
  return choose(choices, ({ text }) => Math.max(1, [...text].length));
}

// An upper bound that loses has lost for certain; one that wins has not won.
function choose(choices: readonly ScoredChoice[], lengthOf: (choice: ScoredChoice) => number): Chosen {
  const scores = choices.map((choice) => choice.logprob / lengthOf(choice));
  const index = scores.reduce((best, score, i) => (score > scores[best]! ? i : best), 0);
  return { index, certain: choices[index]!.bounded === 0 };
}
