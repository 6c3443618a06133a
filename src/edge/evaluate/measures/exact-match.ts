// Exact match of what a pattern finds in an answer, normalised as lm-eval does. Zone: edge.
// EleutherAI lm-evaluation-harness: `filter_list` with `regex` and `take_first`, and the options of its `exact_match` metric.

/** How the answer is found in a text: `group_select` picks among all matches (−1: the last one). */
export interface AnswerFilter {
  readonly name: string;
  /** null: the whole text. */
  readonly pattern: RegExp | null;
  readonly groupSelect: number;
}

/** What is left out of answer and reference before they are compared. */
export interface Normalisation {
  readonly ignoreCase: boolean;
  readonly ignorePunctuation: boolean;
  readonly regexesToIgnore: readonly RegExp[];
}

/** What stands for an answer that the pattern does not find; as in lm-eval it matches no reference. */
export const NO_ANSWER = '[invalid]';

/** lm-eval's two filters for gsm8k: the number after ####, and the last number anywhere. */
export const GSM8K_FILTERS: readonly AnswerFilter[] = [
  { name: 'strict-match', pattern: /#### (-?[0-9.,]+)/g, groupSelect: 0 },
  { name: 'flexible-extract', pattern: /(-?[$0-9.,]{2,})|(-?[0-9]+)/g, groupSelect: -1 },
];

/** lm-eval's `regexes_to_ignore` of gsm8k: commas, dollar signs, everything up to ####, a full stop at the end. */
export const GSM8K_NORMALISATION: Normalisation = {
  ignoreCase: true,
  ignorePunctuation: false,
  regexesToIgnore: [/,/g, /\$/g, /.*#### /gs, /\.$/g],
};

/** The answer in a text, or NO_ANSWER. Of several groups in a pattern the first that is not empty counts. */
export function findAnswer(text: string, { pattern, groupSelect }: AnswerFilter): string {
  if (pattern === null) return text.trim();
  const found = [...text.matchAll(pattern)].at(groupSelect);
  if (found === undefined) return NO_ANSWER;
  const answer = found.length === 1 ? found[0] : found.slice(1).find((group) => group !== undefined && group !== '');
  return (answer ?? NO_ANSWER).trim();
}

export function normalise(text: string, { ignoreCase, ignorePunctuation, regexesToIgnore }: Normalisation): string {
  let left = regexesToIgnore.reduce((rest, pattern) => rest.replace(pattern, ''), text);
  if (ignoreCase) left = left.toLowerCase();
  // Python's string.punctuation.
  return ignorePunctuation ? left.replace(/[!-/:-@[-`{-~]/g, '') : left;
}

/** Whether the answer found in `text` is the reference. */
export function exactMatch(
  text: string,
  reference: string,
  filter: AnswerFilter,
  normalisation: Normalisation,
): { readonly answer: string; readonly matches: boolean } {
  const answer = findAnswer(text, filter);
  return { answer, matches: normalise(answer, normalisation) === normalise(reference, normalisation) };
}
