// The vocabulary permutation as a substitution cipher: whoever copies a bundle with embedding and head lets the locked model write, and
// decodes its ids by their statistics. Zone: owner (as attacker). Frequencies and neighbours give a first key (Sinkhorn on the quadratic
// assignment of bigram matrices); then the locked model itself scores keys: the likelihood of plain text is linear in where the next
// token goes, so the best key for given inputs is an assignment. Last, the tables are fine-tuned on text. No enclave, no answers.
import { type Example, teacherPositions } from '../../edge/data/example.js';
import { openGate } from '../../edge/teacher/gate.js';
import { forward } from '../../edge/teacher/pass.js';
import { assembleClone } from '../assemble.js';
import { bestAssignment, sinkhorn } from '../assignment.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { fitStudent } from '../fit-student.js';
import { multiply } from '../least-squares.js';
import { sampleLocked } from '../sample-locked.js';
import type { Target } from '../target.js';

/** Tokens up to which it is tried: matrices are [vocabulary, vocabulary] (19 GB each at 49,152) and assignments cubic. */
const VOCABULARY_LIMIT = 2048;
const TABLES = new Set(['model.embed_tokens.weight', 'lm_head.weight']);

export const substitutionCipher: Attack = {
  name: 'substitution-cipher',
  adversary: 'copier',
  summary: 'decode locked token ids by the statistics of what the locked model writes, then fine-tune the tables',
  sources: [
    'Sinkhorn distances (Cuturi, arXiv 1306.0895)',
    'fast approximate quadratic assignment (Vogelstein et al. 2015)',
    'DistilLock, arXiv 2510.16716 (the vocabulary permutation)',
  ],
  idleReason: ({ plan, config }) => {
    if ([plan.embedding, ...plan.blocks, plan.head].includes('enclave'))
      return 'parts of the model lie inside the enclave: the bundle alone writes no text';
    return tooLarge(config.vocabSize);
  },
  tooLarge: ({ config }) => tooLarge(config.vocabSize),
  run,
};

function tooLarge(vocabSize: number): string | null {
  if (vocabSize <= VOCABULARY_LIMIT) return null;
  return `not tried above ${VOCABULARY_LIMIT} tokens: its matrices grow with the square of ${vocabSize}`;
}

const SAMPLED = { texts: 96, tokens: 60 };
/** Texts that keys are scored on. */
const SCORED = 60;
const ROUNDS = 12;
/** Inputs change with the key, so the likelihood may fall once before it rises. */
const PATIENCE = 2;
/** Fine-tuning is for rows that stayed wrong; right ones must not move far. */
const TUNING_SHARE = 0.25;
const TUNING_RATE = 0.1;

async function run(target: Target, { lessons, seed, steps, learningRate }: AttackSettings): Promise<Attempt> {
  const { examples } = lessons;
  const key = await breakCipher(target, examples, seed);
  const width = target.config.hiddenSize;
  const found = new Map<string, Float32Array>();
  for (const name of TABLES) {
    const locked = target.weights.get(name)!;
    const plain = new Float32Array(locked.length);
    key.forEach((id, token) => {
      plain.set(locked.subarray(id * width, (id + 1) * width), token * width);
    });
    found.set(name, plain);
  }
  const clone = assembleClone(target, found);
  const tuning = { steps: Math.ceil(TUNING_SHARE * steps), learningRate: TUNING_RATE * learningRate, seed };
  await fitStudent(clone, { examples, released: null }, { ...tuning, trainable: (name) => TABLES.has(name) });
  return { clone, recordedTokens: 0, queries: 0, bytes: SAMPLED.texts * SAMPLED.tokens * 4 };
}

/** Token id → locked id. */
async function breakCipher(target: Target, examples: readonly Example[], seed: number): Promise<Int32Array> {
  const n = target.config.vocabSize;
  const written = await sampleLocked(target.runner, { ...SAMPLED, seed });
  const plain = bigrams(
    examples.map(({ inputIds }) => inputIds),
    n,
  );
  let key = matchBigrams(plain, bigrams(written, n), n);
  let best = { key, likelihood: Number.NEGATIVE_INFINITY };
  let worse = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const { votes, likelihood } = await score(target, examples.slice(0, SCORED), key);
    if (likelihood > best.likelihood) {
      best = { key, likelihood };
      worse = 0;
    } else worse += 1;
    if (worse === PATIENCE) break;
    key = bestAssignment(votes, n);
  }
  return best.key;
}

interface Statistics {
  /** Square roots of pair frequencies, [n, n]: Hellinger's scale, on which rare and frequent pairs weigh alike. */
  readonly pairs: Float64Array;
  /** [n]. */
  readonly frequency: Float64Array;
}

function bigrams(texts: readonly Int32Array[], n: number): Statistics {
  const pairs = new Float64Array(n * n);
  const frequency = new Float64Array(n);
  let total = 0;
  for (const text of texts)
    text.forEach((id, t) => {
      frequency[id]! += 1;
      if (t === 0) return;
      pairs[text[t - 1]! * n + id]! += 1;
      total += 1;
    });
  return { pairs: pairs.map((x) => Math.sqrt(x / total)), frequency: frequency.map((x) => Math.sqrt(x / total)) };
}

/** Cooling: soft maps first, or early mistakes stay. */
const TEMPERATURES = [1, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.09, 0.06, 0.04, 0.03, 0.02];

/** Frank and Wolfe's ascent of the agreement Σ A[i,j]·B[π(i),π(j)], with Sinkhorn's soft maps as vertices. */
function matchBigrams(plain: Statistics, locked: Statistics, n: number): Int32Array {
  const alike = new Float64Array(n * n);
  const loops = (statistics: Statistics, i: number): number => statistics.pairs[i * n + i]!;
  const spread = (statistics: Statistics): Float64Array[] => sortedProfiles(statistics.pairs, n);
  const [left, right] = [spread(plain), spread(locked)];
  for (let i = 0; i < n; i += 1)
    for (let j = 0; j < n; j += 1) {
      const profile = left[i]!.reduce((sum, x, c) => sum + (x - right[j]![c]!) ** 2, 0);
      const count = (plain.frequency[i]! - locked.frequency[j]!) ** 2;
      alike[i * n + j] = -Math.sqrt(profile + count + (loops(plain, i) - loops(locked, j)) ** 2);
    }
  let soft = sinkhorn(alike, n, 0.1);
  let gradient: Float64Array = alike;
  const transposedA = transpose(plain.pairs, n);
  const transposedB = transpose(locked.pairs, n);
  for (const temperature of TEMPERATURES) {
    const forwards = multiply(multiply(plain.pairs, soft, n, false), transposedB, n, false);
    const backwards = multiply(multiply(transposedA, soft, n, false), locked.pairs, n, false);
    gradient = forwards.map((x, i) => x + backwards[i]!);
    soft = sinkhorn(gradient, n, temperature);
  }
  return bestAssignment(soft, n);
}

/** The largest shares among a token's followers and predecessors, in order: what a renaming does not change. */
function sortedProfiles(pairs: Float64Array, n: number): Float64Array[] {
  const kept = Math.min(16, n);
  return Array.from({ length: n }, (_, i) => {
    const after = pairs
      .slice(i * n, (i + 1) * n)
      .sort()
      .reverse();
    const before = Float64Array.from({ length: n }, (_, j) => pairs[j * n + i]!)
      .sort()
      .reverse();
    return Float64Array.of(...after.subarray(0, kept), ...before.subarray(0, kept));
  });
}

function transpose(a: Float64Array, n: number): Float64Array {
  return Float64Array.from(a, (_, i) => a[(i % n) * n + Math.floor(i / n)]!);
}

/** Votes [token, locked id]: log-probability of each locked id wherever the token came next, inputs read with `key`. */
async function score(
  target: Target,
  examples: readonly Example[],
  key: Int32Array,
): Promise<{ votes: Float64Array; likelihood: number }> {
  const { runner, config } = target;
  const { vocabSize: n, hiddenSize: width } = config;
  const votes = new Float64Array(n * n);
  for (const example of examples) {
    const { inputIds } = example;
    const layout = { batch: 1, tokens: inputIds.length, lengths: [inputIds.length] };
    const locked = inputIds.map((id) => key[id]!);
    const hidden = (await forward(runner, openGate, locked, layout)) as Float32Array;
    const positions = teacherPositions(example);
    const rows = new Float32Array(positions.length * width);
    positions.forEach((position, i) => {
      rows.set(hidden.subarray(position * width, (position + 1) * width), i * width);
    });
    const { ids, logprobs } = await runner.topK(rows, positions.length, n, 1);
    positions.forEach((position, row) => {
      const token = inputIds[position + 1]!;
      for (let i = row * n; i < (row + 1) * n; i += 1) votes[token * n + ids[i]!]! += logprobs[i]!;
    });
  }
  const likelihood = key.reduce((sum, id, token) => sum + votes[token * n + id]!, 0);
  return { votes, likelihood };
}
