// Every measure against values worked out by hand or published; intervals against closed forms.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTeacherRows } from '../../src/edge/cache/rows.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { bootstrap, ratioOf, wilson } from '../../src/edge/evaluate/interval.js';
import { chooseByLength, chooseBySum } from '../../src/edge/evaluate/measures/choice.js';
import { klOfRow } from '../../src/edge/evaluate/measures/divergence.js';
import {
  exactMatch,
  findAnswer,
  GSM8K_FILTERS,
  GSM8K_NORMALISATION,
  NO_ANSWER,
  normalise,
} from '../../src/edge/evaluate/measures/exact-match.js';
import { scoreFromTopK } from '../../src/edge/evaluate/measures/likelihood-bound.js';
import { longestCommonSubsequence, rougeL, wordsOf } from '../../src/edge/evaluate/measures/rouge-l.js';

const close = (actual: number, expected: number, tolerance = 1e-6): void =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${actual}, not ${expected}`);

test('ROUGE-L: the example of the paper, punctuation, other scripts, nothing in common', () => {
  // Lin 2004, section 3.1: LCS 3 and 2 of 4 words.
  close(rougeL('police kill the gunman', 'police killed the gunman'), 0.75);
  close(rougeL('the gunman kill police', 'police killed the gunman'), 0.5);
  // LCS "the quick brown the" of 5 and 9 words: P = 4/5, R = 4/9, F1 = 8/14.
  close(rougeL('The quick brown, the LOG!', 'the quick brown fox jumps over the lazy dog'), 4 / 7);
  close(rougeL('Zwölf Äpfel', 'zwölf äpfel fallen'), 0.8);
  assert.deepEqual([rougeL('', 'a'), rougeL('a', ''), rougeL('...', '...'), rougeL('a', 'b')], [0, 0, 0, 0]);
  assert.deepEqual(wordsOf("It's 3.5 km"), ['it', 's', '3', '5', 'km']);
  assert.equal(longestCommonSubsequence([...'ABCBDAB'], [...'BDCABA']), 4);
});

test('exact match: strict and flexible answers of gsm8k, normalised', () => {
  const [strict, flexible] = GSM8K_FILTERS as [(typeof GSM8K_FILTERS)[0], (typeof GSM8K_FILTERS)[0]];
  const gold = 'She earned 12 * 100 = $<<12*100=1200>>1,200 in all.\n#### 1,200';
  const both = (response: string): boolean[] =>
    [strict, flexible].map((filter) => exactMatch(response, gold, filter, GSM8K_NORMALISATION).matches);
  assert.deepEqual(both('It is 1200.\n#### 1200'), [true, true]);
  assert.deepEqual(both('#### 1,200.'), [true, true]);
  assert.deepEqual(both('The answer is $1,200.'), [false, true]);
  assert.deepEqual(both('#### 1200 for 3 weeks'), [true, false]);
  assert.deepEqual(both('#### -1200'), [false, false]);
  assert.deepEqual(both('I do not know'), [false, false]);
  assert.equal(findAnswer('no number', strict), NO_ANSWER);
  assert.equal(findAnswer('#### 3\n#### 4', strict), '3');
  assert.equal(findAnswer('from 3 to -4', flexible), '-4');
  assert.equal(findAnswer('  whole  ', { name: 'none', pattern: null, groupSelect: 0 }), 'whole');
  const strip = { ignoreCase: true, ignorePunctuation: true, regexesToIgnore: [/\bthe\b/g] };
  assert.equal(normalise('the A-B, (c)!', strip), ' ab c');
});

test('multiple choice: sum, per character, ties, and what a bound leaves open', () => {
  const exact = (text: string, logprob: number, bounded = 0) => ({ text, logprob, bounded });
  const choices = [exact('no', -2), exact('certainly', -4.5), exact('🙂🙂', -2)];
  const right = { certainlyRight: true, possiblyRight: true };
  const wrong = { certainlyRight: false, possiblyRight: false };
  assert.deepEqual(chooseBySum(choices, 0), { index: 0, ...right });
  assert.deepEqual(chooseBySum(choices, 2), { index: 0, ...wrong }, 'the first of equals');
  // −2/2, −4.5/9 and −2/2: an emoji is one character.
  assert.deepEqual(chooseByLength(choices, 1), { index: 1, ...right });
  assert.equal(chooseByLength([exact('🙂🙂', -1.8), exact('abcd', -4)], 0).index, 0);
  // An upper bound that loses has lost; one that wins may have lost.
  const low = [exact('a', -3), exact('b', -4, 1)];
  assert.deepEqual(
    [chooseBySum(low, 0), chooseBySum(low, 1)],
    [
      { index: 0, ...right },
      { index: 0, ...wrong },
    ],
  );
  const high = [exact('a', -3, 1), exact('b', -4), exact('c', -5)];
  const open = { certainlyRight: false, possiblyRight: true };
  assert.deepEqual(
    [0, 1, 2].map((target) => chooseBySum(high, target)),
    [
      { index: 0, ...open },
      { index: 0, ...open },
      { index: 0, ...wrong },
    ],
  );
});

test('KL over top-k and tail: by hand, and 0 for the teacher itself', () => {
  const rows = createTeacherRows(2, Int32Array.of(7, 3, 7, 3), Float32Array.of(0.5, 0.3, 0.5, 0.3).map(Math.log));
  const kl = klOfRow(rows, 1, { logprobs: Float32Array.of(0.25, 0.25).map(Math.log), rest: 0.5 });
  close(kl, 0.5 * Math.log(2) + 0.3 * Math.log(1.2) + 0.2 * Math.log(0.4));
  close(klOfRow(rows, 0, { logprobs: Float32Array.of(0.5, 0.3).map(Math.log), rest: 0.2 }), 0);
  assert.ok(Number.isFinite(klOfRow(rows, 0, { logprobs: Float32Array.of(-0.6, -0.8), rest: 0 })));
});

test('a token outside the top k has an upper bound: the k-th probability or the whole tail, whichever is less', () => {
  const rows = createTeacherRows(2, Int32Array.of(7, 3, 5, 6), Float32Array.of(0.5, 0.1, 0.6, 0.39).map(Math.log));
  assert.deepEqual(scoreFromTopK(rows, 0, 7), { logprob: Math.fround(Math.log(0.5)), exact: true, best: true });
  assert.deepEqual(
    [scoreFromTopK(rows, 0, 3).exact, scoreFromTopK(rows, 0, 3).best, scoreFromTopK(rows, 1, 7).exact],
    [true, false, false],
  );
  close(scoreFromTopK(rows, 0, 9).logprob, Math.log(0.1));
  close(scoreFromTopK(rows, 1, 9).logprob, Math.log(0.01), 1e-4);
});

test('intervals: Wilson by formula, bootstrap near the normal one, the same for the same seed', () => {
  const of = ({ low, high }: { low: number; high: number }): string => `${low.toFixed(4)} ${high.toFixed(4)}`;
  assert.equal(of(wilson(8, 10)), '0.4902 0.9433');
  assert.equal(of(wilson(0, 20)), '0.0000 0.1611');
  assert.equal(of(wilson(20, 20)), '0.8389 1.0000');
  const random = new RandomStream('test/interval', 1);
  const shares = Array.from({ length: 400 }, () => ({ sum: 3 + 2 * random.normal(), weight: 1 }));
  const mean = ratioOf(shares);
  const deviation = Math.sqrt(shares.reduce((sum, share) => sum + (share.sum - mean) ** 2, 0) / 400);
  const half = (1.96 * deviation) / 20;
  const found = bootstrap(shares, 42)!;
  close(found.low, mean - half, half * 0.15);
  close(found.high, mean + half, half * 0.15);
  assert.deepEqual(bootstrap(shares, 42), found);
  assert.notDeepEqual(bootstrap(shares, 43), found);
  assert.equal(bootstrap(shares.slice(0, 1), 42), null);
  // A ratio weighs documents by their tokens.
  close(
    ratioOf([
      { sum: 1, weight: 1 },
      { sum: 0, weight: 3 },
    ]),
    0.25,
  );
  const flat = bootstrap(
    [
      { sum: 2, weight: 1 },
      { sum: 4, weight: 2 },
      { sum: 6, weight: 3 },
    ],
    1,
  )!;
  assert.deepEqual([flat.low, flat.high], [2, 2]);
});
