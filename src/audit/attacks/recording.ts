// Recording and linear algebra: whoever sees every accelerator tensor of a licensed session solves for what the enclave adds. Zone: owner.
// Entry: what a token becomes, by averages. Exit: the head, by least squares on released log-probabilities. Parts between: the orthogonal
// map from the basis before to the basis behind. The rest is read from the bundle. Nothing is trained.

import { teacherPositions } from '../../edge/data/example.js';
import type { Student } from '../../edge/train/student.js';
import { assembleClone, hasOpenParts, heldBetween, rebase, timesTransposed } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { fitHead, type HeadRows } from '../fit-head.js';
import { blackBoxStudent } from '../lab.js';
import { meanByLabel, procrustes } from '../least-squares.js';
import { type Recording, recordingOf, type Trace } from '../recorder.js';
import type { Target } from '../target.js';

export const recording: Attack = {
  name: 'recording',
  adversary: 'recorder',
  curve: true,
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
  const seen = await recordingOf(target, settings.lessons);
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
  found.set('model.embed_tokens.weight', entryTable(target, seen));
  found.set('lm_head.weight', headTable(target, seen));
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

function mappedRows(table: Float32Array, map: Int32Array, width: number): Float32Array {
  const out = new Float32Array(map.length * width);
  map.forEach((locked, token) => {
    if (locked >= 0) out.set(table.subarray(locked * width, (locked + 1) * width), token * width);
  });
  return out;
}

function entryTable(target: Target, { traces, vocabulary }: Recording): Float32Array {
  const { hiddenSize, vocabSize } = target.config;
  const readable = target.weights.get('model.embed_tokens.weight');
  if (readable !== undefined) return mappedRows(readable, vocabulary, hiddenSize);
  const first = traces.map(({ crossings }) => crossings.get(1)!);
  return meanByLabel(
    first,
    traces.map(({ example }) => example.inputIds),
    vocabSize,
    hiddenSize,
  );
}

function headTable(target: Target, seen: Recording): Float32Array {
  const readable = target.weights.get('lm_head.weight');
  if (readable === undefined) return solveHead(target, seen);
  return mappedRows(readable, seen.vocabulary, target.config.hiddenSize);
}

/** Rounds that the solver takes, and what it needs where a token has fewer rows than the width: more changes nothing that matters. */
const HEAD = { iterations: 60, ridge: 0.25, unnamed: true };

function solveHead(target: Target, { traces }: Recording): Float32Array {
  const { hiddenSize, vocabSize } = target.config;
  const asked = traces.map((trace): HeadRows => {
    return { headInput: trace.headInput ?? normalisedExit(target, trace), released: trace.released };
  });
  return fitHead(new Float32Array(vocabSize * hiddenSize), hiddenSize, asked, HEAD);
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
