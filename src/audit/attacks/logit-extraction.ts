// What log-probabilities alone tell about the last layer: over the whole vocabulary their rows span a space of the hidden width, the head's
// column space (Carlini et al.). Zone: owner (as attacker: any licensed user). Rows of all tokens give it by one decomposition; rows of the
// top k are completed first, k below the width included: what that finds is measured, not argued. The clone is a student that starts with
// the head found.

import { countTargets, type Example } from '../../edge/data/example.js';
import { randomStudent, type Student } from '../../edge/train/student.js';
import { roundToFloat16 } from '../../trusted/enclave/float16.js';
import type { Attack, AttackSettings, Attempt, Leak } from '../attack.js';
import { completeRows, type Entries } from '../complete-rows.js';
import { fitStudent, type Lessons } from '../fit-student.js';
import { cloneConfig } from '../locked-weights.js';
import { record } from '../recorder.js';
import { rowSpace } from '../row-space.js';
import type { Target } from '../target.js';

/** A value to fit, one to hold back, one for the normaliser, and one more. */
const LEAST_ENTRIES = 4;

export const logitExtraction: Attack = {
  name: 'logit-extraction',
  adversary: 'recorder',
  summary: 'hidden width and head space from released log-probabilities, top-k rows completed',
  sources: [
    'Stealing part of a production language model, arXiv 2403.06634',
    'arXiv 2403.09539',
    'softImpute-ALS, arXiv 1410.2596',
  ],
  idleReason: ({ topK }) =>
    topK >= LEAST_ENTRIES ? null : `a row of ${topK} values leaves none to check a completion with`,
  // All log-probabilities, where it must succeed.
  control: (unlocked) => ({ ...unlocked, topK: unlocked.config.vocabSize }),
  run,
};

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  const { config, topK } = target;
  const { vocabSize, hiddenSize } = config;
  // All tokens of more rows than these would add nothing but memory.
  const most = topK === vocabSize ? wholeRows(hiddenSize) : Number.POSITIVE_INFINITY;
  const examples = covering(settings.lessons.examples, most);
  const seen = await record(target.runner, await target.session(), examples, { k: topK, temperature: 1 });
  const released = seen.traces.map((trace) => trace.released);
  const leak = extract({ examples, released }, vocabSize, hiddenSize, settings.seed);
  const clone = studentWithHead(target, leak, settings.seed);
  await fitStudent(clone, settings.lessons, settings);
  const recordedTokens = seen.releasedRows;
  return { clone, leak, recordedTokens, queries: examples.length, bytes: recordedTokens * topK * 8 };
}

/** Rows of all tokens that one decomposition takes: twice the width shows the gap, more average rounding away. */
function wholeRows(width: number): number {
  return Math.max(2 * width, Math.min(4 * width, 512));
}

function covering(examples: readonly Example[], rows: number): readonly Example[] {
  let have = 0;
  const end = examples.findIndex((example) => {
    have += countTargets(example);
    return have >= rows;
  });
  return end < 0 ? examples : examples.slice(0, end + 1);
}

/** From released rows. Tokens that no row names are 0 in the span. */
export function extract({ released }: Lessons, vocabSize: number, width: number, seed = 1): Leak {
  const entries = join(released!, vocabSize);
  return entries.k === vocabSize ? decompose(entries, width) : complete(entries, width, seed);
}

function join(released: NonNullable<Lessons['released']>, vocabSize: number): Entries {
  const k = released[0]!.k;
  const rows = released.reduce((sum, each) => sum + each.rows, 0);
  const tokenIds = new Int32Array(rows * k);
  const logprobs = new Float32Array(rows * k);
  let at = 0;
  for (const each of released) {
    tokenIds.set(each.tokenIds, at);
    logprobs.set(each.logprobs, at);
    at += each.rows * k;
  }
  return { rows, k, tokenIds, logprobs, vocabSize };
}

function decompose({ rows, k, tokenIds, logprobs, vocabSize }: Entries, width: number): Leak {
  const count = Math.min(rows, wholeRows(width));
  const matrix = Array.from({ length: count }, (_, r) => {
    const row = new Float64Array(vocabSize);
    let mean = 0;
    for (let i = r * k; i < (r + 1) * k; i += 1) {
      row[tokenIds[i]!] = logprobs[i]!;
      mean += logprobs[i]! / k;
    }
    // log p = h·w − z: the normaliser z goes with the mean.
    return row.map((x) => x - mean);
  });
  const { rank, basis, singularValues } = rowSpace(matrix);
  const span = new Float64Array(rank * vocabSize);
  basis.forEach((vector, r) => {
    span.set(vector, r * vocabSize);
  });
  return { rank, span, scales: singularValues.slice(0, rank).map((x) => x / Math.sqrt(count * vocabSize)) };
}

/** All directions, also where the completion is no good: what they hold of the head is measured against the truth. */
function complete(entries: Entries, width: number, seed: number): Leak {
  const { scales, span } = completeRows(entries, { width, seed, noise: rounding(entries.logprobs) });
  return { rank: scales.length, span, scales };
}

/** Standard deviation of what rounding to float16 or float32 did to released values, nats. */
function rounding(logprobs: Float32Array): number {
  const halves = logprobs.every((x) => roundToFloat16(x) === x);
  const squares = logprobs.reduce((sum, x) => sum + x * x, 0) / logprobs.length;
  return (Math.sqrt(squares) * (halves ? 2 ** -11 : 2 ** -22)) / Math.sqrt(3);
}

/** A student from random weights but for the directions of the head that were found, as a hidden state of unit variance needs them. */
function studentWithHead({ config }: Target, { rank, span, scales }: Leak, seed: number): Student {
  const student = randomStudent({ ...cloneConfig(config), initializerRange: 0.02 }, seed);
  const head = student.parameters.get('lm_head.weight')!.data;
  const { vocabSize, hiddenSize } = config;
  for (let r = 0; r < Math.min(rank, hiddenSize); r += 1)
    for (let id = 0; id < vocabSize; id += 1)
      head[id * hiddenSize + r] = span[r * vocabSize + id]! * scales[r]! * Math.sqrt(vocabSize);
  return student;
}
