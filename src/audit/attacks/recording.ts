// Recording and linear algebra: whoever sees every accelerator tensor of a licensed session solves for what the enclave adds. Zone: owner.
// Entry: what a token becomes, by averages. Exit: the head, by least squares on released log-probabilities. Parts between: the orthogonal
// map from the basis before to the basis behind. The rest is read from the bundle. Nothing is trained.

import { teacherPositions } from '../../edge/data/example.js';
import type { Student } from '../../edge/train/student.js';
import { assembleClone, hasOpenParts, heldBetween, rebase, timesTransposed } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { blackBoxStudent } from '../lab.js';
import { leastSquares, meanByLabel, procrustes } from '../least-squares.js';
import { type Recording, record, type Trace } from '../recorder.js';
import type { Target } from '../target.js';

export const recording: Attack = {
  name: 'recording',
  adversary: 'recorder',
  summary: 'record a licensed session, solve for entry and exit maps, assemble a clone',
  sources: [
    "the design's own analysis (least squares over entry and exit maps)",
    'arXiv 2505.18332',
    'arXiv 2605.04901',
  ],
  idleReason: (target) => (hasOpenParts(target) ? null : 'nothing but released answers is seen outside the enclave'),
  run,
};

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  const examples = settings.lessons.examples;
  const spent = { queries: examples.length };
  if (!hasOpenParts(target)) {
    const clone = await blackBoxStudent(target.config, settings.lessons, settings);
    const recordedTokens = settings.lessons.released!.reduce((sum, { rows }) => sum + rows, 0);
    return { clone, recordedTokens, bytes: 0, ...spent };
  }
  const session = await target.session();
  const seen = await record(target.runner, session, examples, { k: target.topK, temperature: 1 });
  return { clone: solve(target, seen).clone, recordedTokens: seen.releasedRows, bytes: seen.bytes, ...spent };
}

export interface Solved {
  readonly clone: Student;
  /** Hidden states [tokens, width] of crossing `i` of every text in the clone's basis; null where the enclave kept any of them. */
  crossing(i: number): Float32Array[] | null;
  /** Rows [rows, width] of crossing `i` (infinity: of the head) from the basis they were recorded in to the clone's. */
  toClone(rows: Float32Array, i: number): Float32Array;
}

/** Everything that algebra gives. */
export function solve(target: Target, seen: Recording): Solved {
  const width = target.config.hiddenSize;
  const found = new Map<string, Float32Array>();
  const token = vocabularyMap(target, seen);
  found.set('model.embed_tokens.weight', entryTable(target, seen, token));
  found.set('lm_head.weight', headTable(target, seen, token));
  const clone = assembleClone(target, found);
  const side = (i: number): Float32Array[] => seen.traces.map(({ crossings }) => crossings.get(i)!);
  const turns = heldBetween(target).map(({ segment, next }) => {
    return { segment, next, q: procrustes(side(segment), side(segment + 1), width) };
  });
  // From the back: what lies behind a border moves as a whole.
  for (const { next, q } of turns.toReversed()) rebase(clone, next, q);
  function crossing(i: number): Float32Array[] | null {
    if (!seen.traces.every(({ crossings }) => crossings.has(i))) return null;
    return side(i).map((rows) => toClone(rows, i));
  }
  function toClone(rows: Float32Array, i: number): Float32Array {
    const before = turns.filter(({ segment }) => segment < i).toReversed();
    return before.reduce((turned, { q }) => timesTransposed(turned, q, width), rows);
  }
  return { clone, crossing, toClone };
}

/** Token id → locked id where recorded, −1 where never seen. Identity where neither embedding nor head shows locked ids. */
function vocabularyMap(target: Target, { traces }: Recording): Int32Array {
  const map = new Int32Array(target.config.vocabSize).fill(-1);
  for (const { example, lockedIds, lockedTopK, released } of traces) {
    lockedIds?.forEach((locked, i) => {
      map[example.inputIds[i]!] = locked;
    });
    // Released ids are in the order of the locked ones that were asked for.
    lockedTopK?.ids.forEach((locked, i) => {
      map[released.tokenIds[i]!] = locked;
    });
  }
  return map;
}

function mappedRows(table: Float32Array, map: Int32Array, width: number): Float32Array {
  const out = new Float32Array(map.length * width);
  map.forEach((locked, token) => {
    if (locked >= 0) out.set(table.subarray(locked * width, (locked + 1) * width), token * width);
  });
  return out;
}

function entryTable(target: Target, { traces }: Recording, token: Int32Array): Float32Array {
  const { hiddenSize, vocabSize } = target.config;
  const readable = target.weights.get('model.embed_tokens.weight');
  if (readable !== undefined) return mappedRows(readable, token, hiddenSize);
  const first = traces.map(({ crossings }) => crossings.get(1)!);
  return meanByLabel(
    first,
    traces.map(({ example }) => example.inputIds),
    vocabSize,
    hiddenSize,
  );
}

function headTable(target: Target, seen: Recording, token: Int32Array): Float32Array {
  const readable = target.weights.get('lm_head.weight');
  return readable === undefined ? solveHead(target, seen) : mappedRows(readable, token, target.config.hiddenSize);
}

const ROUNDS = 8;
const RIDGE = 1e-3;
/** Rows per token that did not name it: its log-probability there lies below the least one released. */
const ABSENT_ROWS = 64;
const ABSENT_WEIGHT = 0.1;
const ABSENT_BELOW = 2;

/** log p(v) = h·w_v − z: alternates between the w of every token and the normaliser z of every row. */
function solveHead(target: Target, { traces }: Recording): Float32Array {
  const { hiddenSize: width, vocabSize } = target.config;
  const k = target.topK;
  const rows = traces.reduce((sum, { released }) => sum + released.rows, 0);
  const hidden = new Float32Array(rows * width);
  const ids = new Int32Array(rows * k);
  const logprobs = new Float32Array(rows * k);
  let at = 0;
  for (const trace of traces) {
    const { released } = trace;
    hidden.set(trace.headInput ?? normalisedExit(target, trace), at * width);
    ids.set(released.tokenIds, at * k);
    logprobs.set(released.logprobs, at * k);
    at += released.rows;
  }
  const mentions = rowsNaming(ids, k, rows, vocabSize);
  const normaliser = new Float64Array(rows);
  let head: Float64Array[] = Array.from({ length: vocabSize }, () => new Float64Array(width));
  for (let round = 0; round < ROUNDS; round += 1) {
    head = head.map((start, v) => leastSquares(hidden, width, observe(v), RIDGE, start));
    for (let row = 0; row < rows; row += 1) {
      let sum = 0;
      for (let i = row * k; i < (row + 1) * k; i += 1) {
        const w = head[ids[i]!]!;
        let dot = 0;
        for (let c = 0; c < width; c += 1) dot += hidden[row * width + c]! * w[c]!;
        sum += dot - logprobs[i]!;
      }
      normaliser[row] = sum / k;
    }
  }
  const out = new Float32Array(vocabSize * width);
  for (const [v, w] of head.entries()) out.set(w, v * width);
  return out;

  function observe(v: number): { index: Int32Array; target: Float64Array; weight: Float64Array } {
    const named = mentions[v]!;
    const rowsOfToken = new Set(named.map((i) => Math.floor(i / k)));
    const index = named.map((i) => Math.floor(i / k));
    const values = named.map((i) => logprobs[i]! + normaliser[Math.floor(i / k)]!);
    const weights = named.map(() => 1);
    const stride = Math.max(1, Math.floor(rows / ABSENT_ROWS));
    for (let row = v % stride; row < rows; row += stride) {
      if (rowsOfToken.has(row)) continue;
      index.push(row);
      values.push(logprobs[(row + 1) * k - 1]! - ABSENT_BELOW + normaliser[row]!);
      weights.push(ABSENT_WEIGHT);
    }
    return { index: Int32Array.from(index), target: Float64Array.from(values), weight: Float64Array.from(weights) };
  }
}

/** Where blocks before the head lie inside as well: the last hidden states seen, as a final norm would hand them on. */
function normalisedExit({ config }: Target, { crossings, example }: Trace): Float32Array {
  const last = crossings.get(Math.max(...crossings.keys()))!;
  const width = config.hiddenSize;
  const positions = teacherPositions(example);
  const out = new Float32Array(positions.length * width);
  positions.forEach((position, row) => {
    let squares = 0;
    for (let i = 0; i < width; i += 1) squares += last[position * width + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / width + config.rmsNormEps);
    for (let i = 0; i < width; i += 1) out[row * width + i] = last[position * width + i]! * scale;
  });
  return out;
}

function rowsNaming(ids: Int32Array, k: number, rows: number, vocabSize: number): number[][] {
  const mentions: number[][] = Array.from({ length: vocabSize }, () => []);
  for (let i = 0; i < rows * k; i += 1) mentions[ids[i]!]!.push(i);
  return mentions;
}
