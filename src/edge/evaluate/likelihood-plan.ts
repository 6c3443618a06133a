// What must be asked of a model to score choices: every prefix once, however many choices go through it. Zone: edge.
// A teacher charges for each answered position; labels that start with the same tokens, and single tokens, share theirs.
import { createExample, type Example } from '../data/example.js';
import type { EncodedChoice } from './encode.js';
import type { TokenScore } from './measures/likelihood-bound.js';

/** An example of which some positions are answered, and the tokens that each is asked about. */
export interface Ask {
  readonly example: Example;
  /** By row (`teacherPositions(example)`): token ids. */
  readonly tokens: readonly (readonly number[])[];
}

/** By row and token of an ask. */
export type AskAnswer = readonly (readonly TokenScore[])[];

/** Where the score of one token of a choice is found. */
interface Place {
  readonly ask: number;
  readonly row: number;
  readonly token: number;
}

export interface LikelihoodPlan {
  readonly asks: readonly Ask[];
  /** By document, choice and token of the choice. */
  readonly places: readonly (readonly (readonly Place[])[])[];
}

/** `documents[d][c]`: the choices of each document. */
export function planLikelihoods(documents: readonly (readonly EncodedChoice[])[]): LikelihoodPlan {
  const asks: Ask[] = [];
  const places = documents.map((choices) => planDocument(choices, asks));
  return { asks, places };
}

function planDocument(choices: readonly EncodedChoice[], asks: Ask[]): Place[][] {
  const rows = new Map<string, { ask: number; row: number; tokens: number[] }>();
  return choices.map(({ ids, first }) => {
    const mask = new Uint8Array(ids.length);
    const own: number[][] = [];
    const places: Place[] = [];
    for (let t = first; t < ids.length; t += 1) {
      const prefix = ids.subarray(0, t).join(' ');
      let found = rows.get(prefix);
      if (found === undefined) {
        found = { ask: asks.length, row: own.length, tokens: [] };
        rows.set(prefix, found);
        mask[t] = 1;
        own.push(found.tokens);
      }
      let token = found.tokens.indexOf(ids[t]!);
      if (token < 0) token = found.tokens.push(ids[t]!) - 1;
      places.push({ ask: found.ask, row: found.row, token });
    }
    if (own.length > 0) asks.push({ example: createExample(ids, mask), tokens: own });
    return places;
  });
}

/** ln p of a choice and how many of its tokens rest on a bound. */
export function sumOfChoice(
  places: readonly Place[],
  answers: readonly AskAnswer[],
): { readonly logprob: number; readonly bounded: number } {
  let [logprob, bounded] = [0, 0];
  for (const { ask, row, token } of places) {
    const score = answers[ask]![row]![token]!;
    logprob += score.logprob;
    if (!score.exact) bounded += 1;
  }
  return { logprob, bounded };
}
