import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { extract, logitExtraction } from '../../src/audit/attacks/logit-extraction.js';
import type { Lessons } from '../../src/audit/fit-student.js';
import { shareOfHead } from '../../src/audit/row-space.js';
import { auditTarget, lessonsFrom } from '../../src/audit/run-audit.js';
import { createTeacherRows } from '../../src/edge/cache/rows.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { roundToFloat16 } from '../../src/trusted/enclave/float16.js';
import { openStoriesLab } from './stories-lab.js';

/** What a licence of `precision` float16 releases. */
function rounded({ examples, released }: Lessons): Lessons {
  const halves = released!.map(({ k, tokenIds, logprobs }) =>
    createTeacherRows(k, tokenIds, logprobs.map(roundToFloat16)),
  );
  return { examples, released: halves };
}

/** Top k of a model with random states and a random head, [vocabulary, width]. */
function randomModel(k: number, rows: number): { readonly head: Float32Array; readonly lessons: Lessons } {
  const random = new RandomStream('test', 5);
  const head = Float32Array.from({ length: VOCABULARY * WIDTH }, () => random.normal());
  const tokenIds = new Int32Array(rows * k);
  const logprobs = new Float32Array(rows * k);
  for (let row = 0; row < rows; row += 1) {
    const state = Float32Array.from({ length: WIDTH }, () => random.normal());
    const logits = Array.from({ length: VOCABULARY }, (_, v) =>
      state.reduce((sum, x, c) => sum + x * head[v * WIDTH + c]!, 0),
    );
    const z = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
    const best = logits.map((_, v) => v).sort((a, b) => logits[b]! - logits[a]!);
    for (let i = 0; i < k; i += 1) {
      tokenIds[row * k + i] = best[i]!;
      logprobs[row * k + i] = logits[best[i]!]! - z;
    }
  }
  return { head, lessons: { examples: [], released: [createTeacherRows(k, tokenIds, logprobs)] } };
}

const [VOCABULARY, WIDTH] = [60, 6];

test('rows of the top k are completed once k has a few values more than a row has unknowns', (t) => {
  const found = (k: number): { rank: number; share: number } => {
    const { head, lessons } = randomModel(k, 800);
    const leak = extract(lessons, VOCABULARY, WIDTH);
    return { rank: leak.rank, share: shareOfHead(leak, head, WIDTH) };
  };
  const enough = found(3 * WIDTH);
  const few = found(WIDTH - 1);
  t.diagnostic(`k = ${3 * WIDTH}: ${JSON.stringify(enough)}; k = ${WIDTH - 1}: ${JSON.stringify(few)}`);
  assert.equal(enough.rank, WIDTH);
  assert.ok(enough.share > 0.99);
  assert.ok(few.share < 0.5);
});

/** The first `k` of rows that hold more, likeliest first. */
function top({ examples, released }: Lessons, k: number): Lessons {
  const cut = released!.map((all) => {
    const places = Array.from({ length: all.rows }, (_, row) =>
      Array.from({ length: all.k }, (__, i) => row * all.k + i)
        .sort((a, b) => all.logprobs[b]! - all.logprobs[a]!)
        .slice(0, k),
    ).flat();
    const tokenIds = Int32Array.from(places, (place) => all.tokenIds[place]!);
    return createTeacherRows(
      k,
      tokenIds,
      Float32Array.from(places, (place) => all.logprobs[place]!),
    );
  });
  return { examples, released: cut };
}

test('all log-probabilities give width and head away at both precisions, the top 32 a part of it', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control } = await openStoriesLab(t, folder, 8, 2);
  const { hiddenSize: width, vocabSize } = lab.config;
  const head = control.weights.get('lm_head.weight')!;
  const whole = await lessonsFrom({ ...control, topK: vocabSize }, lab, 600, 1);
  for (const [precision, as] of [
    ['float32', (lessons: Lessons) => lessons],
    ['float16', rounded],
  ] as const) {
    const leak = extract(as(whole), vocabSize, width);
    const share = shareOfHead(leak, head, width);
    const few = extract(as(top(whole, 32)), vocabSize, width);
    const part = shareOfHead(few, head, width);
    t.diagnostic(`${precision}: rank ${leak.rank}, share ${share}; top 32: ${few.rank} directions, share ${part}`);
    assert.equal(leak.rank, width);
    assert.ok(share > 0.99);
    // Directions by chance would hold rank / vocabulary of it, the right ones rank / width.
    assert.ok(part > (2 * few.rank) / vocabSize && part < few.rank / width);
  }
  assert.match(logitExtraction.idleReason({ ...control, topK: 3 }) ?? '', /3 values/);
  const settings = { attacks: [logitExtraction], budgets: [600], seeds: [1], steps: 2, learningRate: 5e-3 };
  const { findings } = await auditTarget({ ...control, topK: 8 }, control, lab, settings);
  const [{ control: against, trials }] = findings as [(typeof findings)[0]];
  assert.ok(against.succeeded && against.advantage > 0.99, `${against.advantage}`);
  assert.ok(trials[0]!.leak!.headShare < 0.2, JSON.stringify(trials[0]!.leak));
});
