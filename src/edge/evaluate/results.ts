// What a model made of each document, and the measures over all of them with their intervals. Zone: edge.

import type { TeacherRows } from '../cache/rows.js';
import type { Example } from '../data/example.js';
import { countTargets, teacherPositions } from '../data/example.js';
import { bootstrap, type Interval, type IntervalMethod, ratioOf, type Share, wilson } from './interval.js';
import { type AskAnswer, sumOfChoice } from './likelihood-plan.js';
import { chooseByLength, chooseBySum } from './measures/choice.js';
import { exactMatch } from './measures/exact-match.js';
import { scoreFromTopK } from './measures/likelihood-bound.js';
import { rougeL } from './measures/rouge-l.js';
import type { TextSums } from './plain-model.js';
import type { PreparedChoices, PreparedGeneration } from './prepared-task.js';

export interface DocumentShare extends Share {
  /** The share rests on a bound: the teacher did not release what would be needed. */
  readonly bounded?: boolean;
  /** What `sum` is at least and at most, where a choice is open. */
  readonly range?: readonly [least: number, most: number];
}

export interface DocumentResult {
  readonly shares: Readonly<Record<string, DocumentShare>>;
  /** A line of the predictions file, without task, document and model. */
  readonly prediction: Readonly<Record<string, unknown>>;
}

export interface MeasureResult {
  readonly value: number;
  /** Null for a single document. */
  readonly low: number | null;
  readonly high: number | null;
  readonly interval: IntervalMethod | null;
  readonly documents: number;
  /** Documents whose share rests on a bound. */
  readonly bounded: number;
  /** What the value is at least and at most, where choices are open; null when every document is decided. */
  readonly range: readonly [least: number, most: number] | null;
}

/** A share of documents has Wilson's interval; everything else is resampled. */
const SHARES_OF_DOCUMENTS = /^(acc|acc_norm|exact_match)\b/;

/** Measures of a task in the order in which documents name them. */
export function summarise(results: readonly DocumentResult[], seed: number): Readonly<Record<string, MeasureResult>> {
  const names = Object.keys(results[0]?.shares ?? {});
  return Object.fromEntries(names.map((name) => [name, summariseOne(name, results, seed)]));
}

function summariseOne(name: string, results: readonly DocumentResult[], seed: number): MeasureResult {
  const shares = results.map((result) => result.shares[name]!);
  const ratio = ratioOf(shares);
  const found: Interval | null = SHARES_OF_DOCUMENTS.test(name)
    ? wilson(Math.round(ratio * shares.length), shares.length)
    : bootstrap(shares, seed);
  const shown = name === 'perplexity' ? Math.exp : (x: number): number => x;
  return {
    value: shown(ratio),
    low: found && shown(found.low),
    high: found && shown(found.high),
    interval: found?.method ?? null,
    documents: shares.length,
    bounded: shares.filter((share) => share.bounded === true).length,
    range: rangeOf(shares),
  };
}

function rangeOf(shares: readonly DocumentShare[]): MeasureResult['range'] {
  if (shares.every(({ range }) => range === undefined || range[0] === range[1])) return null;
  const side = (i: 0 | 1): number =>
    ratioOf(shares.map(({ sum, weight, range }) => ({ sum: range?.[i] ?? sum, weight })));
  return [side(0), side(1)];
}

/** A student's text: KL and agreement with the teacher, negative log-likelihood and perplexity; nats per token. */
export function textResults(sums: readonly TextSums[]): DocumentResult[] {
  return sums.map(({ tokens, nll, kl, agreed }) => ({
    shares: {
      kl: { sum: kl, weight: tokens },
      agreement: { sum: agreed, weight: tokens },
      nll: { sum: nll, weight: tokens },
      perplexity: { sum: nll, weight: tokens },
    },
    prediction: { tokens, kl: kl / tokens, agreement: agreed / tokens, nll: nll / tokens },
  }));
}

/** The teacher's own text, from rows released at temperature 1. A token outside the top k makes the likelihood a lower bound. */
export function teacherTextResults(
  examples: readonly Example[],
  rowsOf: (example: number) => TeacherRows,
): DocumentResult[] {
  return examples.map((example, index) => {
    const teacher = rowsOf(index);
    const tokens = countTargets(example);
    let [nll, outside] = [0, 0];
    for (const [row, position] of teacherPositions(example).entries()) {
      const { logprob, exact } = scoreFromTopK(teacher, row, example.inputIds[position + 1]!);
      nll -= logprob;
      if (!exact) outside += 1;
    }
    const share = { sum: nll, weight: tokens, bounded: outside > 0 };
    return { shares: { nll: share, perplexity: share }, prediction: { tokens, nll: nll / tokens, bounded: outside } };
  });
}

export function choiceResults({ task, items, plan }: PreparedChoices, answers: readonly AskAnswer[]): DocumentResult[] {
  return items.map(({ choices, target, prompt }, document) => {
    const scored = choices.map((text, c) => ({ text, ...sumOfChoice(plan.places[document]![c]!, answers) }));
    const chosen = { acc: chooseBySum(scored, target), acc_norm: chooseByLength(scored, target) };
    const metrics = task.metrics.filter((metric) => metric === 'acc' || metric === 'acc_norm');
    const shares = metrics.map((metric) => {
      const { index, certainlyRight, possiblyRight } = chosen[metric];
      const range = [certainlyRight ? 1 : 0, possiblyRight ? 1 : 0] as const;
      return [metric, { sum: index === target ? 1 : 0, weight: 1, bounded: range[0] !== range[1], range }] as const;
    });
    const prediction = {
      prompt,
      choices,
      target: choices[target],
      logprobs: scored.map(({ logprob }) => logprob),
      bounded: scored.map(({ bounded }) => bounded),
      prediction: choices[chosen.acc.index],
      ...(metrics.includes('acc_norm') ? { prediction_norm: choices[chosen.acc_norm.index] } : {}),
      ...Object.fromEntries(shares.map(([metric, { sum }]) => [metric, sum])),
    };
    return { shares: Object.fromEntries(shares), prediction };
  });
}

export function generationResults({ task, items }: PreparedGeneration, responses: readonly string[]): DocumentResult[] {
  return items.map(({ prompt, target }, document) => {
    const response = responses[document]!;
    const shares: Record<string, DocumentShare> = {};
    const answers: Record<string, string> = {};
    for (const metric of target === null ? [] : task.metrics) {
      if (metric === 'rougeL') shares[metric] = { sum: rougeL(response, target!), weight: 1 };
      else {
        for (const filter of task.filters) {
          const { answer, matches } = exactMatch(response, target!, filter, task.normalisation);
          shares[`exact_match,${filter.name}`] = { sum: matches ? 1 : 0, weight: 1 };
          answers[filter.name] = answer;
        }
      }
    }
    const values = Object.fromEntries(Object.entries(shares).map(([metric, { sum }]) => [metric, sum]));
    const filtered = Object.keys(answers).length === 0 ? {} : { filtered: answers };
    return { shares, prediction: { prompt, target, response, ...filtered, ...values } };
  });
}
