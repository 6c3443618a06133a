// The head by least squares: exact from enough rows, bounded work from many, and what is said about tokens that rows do not name.
import assert from 'node:assert/strict';
import test from 'node:test';
import { chooseRows } from '../../src/audit/choose-rows.js';
import { fitHead, type HeadRows } from '../../src/audit/fit-head.js';
import { createTeacherRows } from '../../src/edge/cache/rows.js';
import { RandomStream } from '../../src/edge/data/random.js';

const width = 6;
const vocabulary = 30;
const k = 16;

/** Rows of a head at random: the top k by log-probability. */
function asked(truth: Float32Array, rows: number, seed: number): HeadRows {
  const random = new RandomStream('test', seed);
  // A constant, and directions of very different size, as hidden states have.
  const headInput = Float32Array.from({ length: rows * width }, (_, i) =>
    i % width === 0 ? 1 : random.normal() * 4 ** -(i % width),
  );
  const ids: number[] = [];
  const logprobs: number[] = [];
  for (let row = 0; row < rows; row += 1) {
    const all = logProbabilities(truth, headInput.subarray(row * width, (row + 1) * width));
    const best = all.map((_, v) => v).sort((a, b) => all[b]! - all[a]!);
    for (const v of best.slice(0, k)) {
      ids.push(v);
      logprobs.push(all[v]!);
    }
  }
  return { headInput, released: createTeacherRows(k, Int32Array.from(ids), Float32Array.from(logprobs)) };
}

function logProbabilities(head: Float32Array, h: Float32Array): number[] {
  const logits = Array.from({ length: vocabulary }, (_, v) =>
    h.reduce((sum, x, c) => sum + x * head[v * width + c]!, 0),
  );
  const z = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
  return logits.map((logit) => logit - z);
}

function head(seed: number): Float32Array {
  const random = new RandomStream('test', seed);
  return Float32Array.from({ length: vocabulary * width }, (_, i) => 2 * random.normal() * 3 ** (i % width));
}

/** Mean KL between two heads on hidden states that neither was fitted to. */
function divergence(truth: Float32Array, found: Float32Array): number {
  const { headInput } = asked(truth, 50, 99);
  let sum = 0;
  for (let at = 0; at < headInput.length; at += width) {
    const p = logProbabilities(truth, headInput.subarray(at, at + width));
    const q = logProbabilities(found, headInput.subarray(at, at + width));
    sum += p.reduce((kl, x, v) => kl + Math.exp(x) * (x - q[v]!), 0) / 50;
  }
  return sum;
}

test('some hundred rows determine the head, in some dozen rounds and however unequal the directions are', () => {
  const truth = head(1);
  const found = fitHead(new Float32Array(truth.length), width, [asked(truth, 600, 2)], { iterations: 100 });
  // What is left is of tokens that hardly any row names.
  assert.ok(divergence(truth, found) < 0.02, `${divergence(truth, found)}`);
  assert.ok(divergence(truth, new Float32Array(truth.length)) > 1);
});

test('where rows are few, what they do not name helps; tokens that none names share one vector', () => {
  const truth = head(1);
  // The last tokens are never among the top.
  for (let v = vocabulary - 3; v < vocabulary; v += 1)
    truth.fill(0, v * width, (v + 1) * width).fill(-9, v * width, v * width + 1);
  const few = [asked(truth, 40, 3)];
  const start = new Float32Array(truth.length);
  const blind = fitHead(start, width, few, { ridge: 1e-3 });
  const seeing = fitHead(start, width, few, { ridge: 1e-3, unnamed: true });
  assert.ok(divergence(truth, seeing) < divergence(truth, blind));
  assert.ok(divergence(truth, seeing) < 0.1, `${divergence(truth, seeing)}`);
  const named = new Set(few[0]!.released.tokenIds);
  const others = Array.from({ length: vocabulary }, (_, v) => v).filter((v) => !named.has(v));
  for (const v of others)
    assert.deepEqual(
      seeing.slice(v * width, (v + 1) * width),
      seeing.slice(others[0]! * width, (others[0]! + 1) * width),
    );
  for (const v of others) assert.ok(blind.slice(v * width, (v + 1) * width).every((x) => x === 0));
});

test('of many rows those are taken that name a token for the first times', () => {
  const truth = head(1);
  const parts = [asked(truth, 30, 4), asked(truth, 500, 5)];
  const chosen = chooseRows(parts, width, vocabulary, 20);
  assert.ok(chosen.rows < 530 && chosen.rows >= 20, `${chosen.rows}`);
  const count = (ids: Int32Array): number[] => {
    const counts = new Array<number>(vocabulary).fill(0);
    for (const id of ids) counts[id]! += 1;
    return counts;
  };
  const all = count(Int32Array.from(parts.flatMap(({ released }) => [...released.tokenIds])));
  for (const [token, times] of count(chosen.ids).entries()) assert.ok(times >= Math.min(20, all[token]!), `${token}`);
  assert.deepEqual(chosen.hidden.slice(0, width), parts[0]!.headInput.slice(0, width));
  assert.deepEqual(chosen.logprobs.slice(0, k), parts[0]!.released.logprobs.slice(0, k));
});
