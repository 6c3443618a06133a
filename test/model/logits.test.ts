// What the graphs compute against independent references: numpy for stories260K, PyTorch for SmolLM2, and each other.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { createTeacherRows, type TeacherRows } from '../../src/edge/cache/rows.js';
import { createBatches } from '../../src/edge/data/batches.js';
import { createExample, type Example, teacherPositions } from '../../src/edge/data/example.js';
import type { Accelerator, TopK } from '../../src/edge/teacher/accelerator.js';
import { Evaluator } from '../../src/edge/train/evaluate.js';
import { openStudent } from '../../src/edge/train/student.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { openTokenizer } from '../../src/model/tokenizer.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { extend, hiddenStates } from '../teacher/steps.js';
import { openLicensed, openUnlocked, storiesFolder } from '../teacher/stories-teacher.js';
import { readJson, smollm2File } from './fixtures.js';

interface StoriesReference {
  readonly cases: readonly {
    readonly promptIds: number[];
    readonly promptMeanNll: number;
    readonly lastLogitsTop10: [id: number, logit: number][];
    readonly greedyIds: number[];
  }[];
}

interface SmolReference {
  readonly sequences: readonly {
    readonly ids: number[];
    readonly nextLogprobs: number[];
    readonly topIds: number[][];
    readonly topLogprobs: number[][];
  }[];
}

/** The k largest log-probabilities after every token of one sequence. */
async function scores(accelerator: Accelerator, ids: Int32Array, k: number): Promise<TopK> {
  const hidden = await hiddenStates(accelerator, { ids, batch: 1, tokens: ids.length, lengths: [ids.length] });
  return accelerator.topK(hidden, ids.length, k, 1);
}

/** Token id → log-probability of one row. */
function rowOf({ k, ids, logprobs }: TopK, row: number): Map<number, number> {
  return new Map(Array.from({ length: k }, (_, i) => [ids[row * k + i]!, logprobs[row * k + i]!]));
}

function assertNear(actual: number, expected: number, bound: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= bound, `${what}: ${actual}, expected ${expected} ± ${bound}`);
}

/** The first stories of the held-out text that fit, every token but the first a target. */
async function stories(count: number): Promise<Example[]> {
  const checkpoint = await openCheckpoint(storiesFolder);
  const tokenizer = await openTokenizer(checkpoint.tokenizer);
  await checkpoint.tensors.close();
  const lines = (await readFile('assets/text/valid.txt', 'utf8')).split('\n').filter((line) => line.length > 40);
  return lines.slice(0, count).map((line) => {
    const ids = Int32Array.from(tokenizer.encode(line)).slice(0, 120);
    return createExample(
      ids,
      Uint8Array.from(ids, (_, t) => Math.min(t, 1)),
    );
  });
}

test('stories260K: logits, likelihood and greedy text are those of the numpy reference', async (t) => {
  const checkpoint = await openCheckpoint(storiesFolder);
  const accelerator = await openUnlocked(t, checkpoint, await temporaryFolder(t));
  const { cases } = await readJson<StoriesReference>('test/fixtures/stories260k/expected.json');
  assert.equal(cases.length, 3);
  for (const { promptIds, promptMeanNll, lastLogitsTop10, greedyIds } of cases) {
    const ids = Int32Array.from(promptIds);
    const all = await scores(accelerator, ids, 512);
    const last = rowOf(all, ids.length - 1);
    const shift = lastLogitsTop10[0]![1] - last.get(lastLogitsTop10[0]![0])!;
    assert.deepEqual(
      [...last.keys()].slice(0, 10),
      lastLogitsTop10.map(([id]) => id),
    );
    for (const [id, logit] of lastLogitsTop10) assertNear(last.get(id)! + shift, logit, 1e-3, `logit of ${id}`);
    let nll = 0;
    for (let i = 1; i < ids.length; i += 1) nll -= rowOf(all, i - 1).get(ids[i]!)!;
    assertNear(nll / (ids.length - 1), promptMeanNll, 1e-3, 'mean NLL of the prompt');

    let step = await extend(accelerator, ids, null);
    let hidden = step.hidden.subarray((ids.length - 1) * checkpoint.config.hiddenSize);
    const generated: number[] = [];
    while (generated.length < greedyIds.length) {
      const [id] = (await accelerator.topK(hidden, 1, 1, 1)).ids;
      generated.push(id!);
      step = await extend(accelerator, Int32Array.of(id!), step.cache);
      hidden = step.hidden;
    }
    assert.equal(generated.length, 100);
    assert.deepEqual(generated, greedyIds);
    assert.equal(step.cache.length, ids.length + 100);
  }
  await checkpoint.tensors.close();
});

test('padding a batch changes nothing, and one pass gives what token by token gives', async (t) => {
  const checkpoint = await openCheckpoint(storiesFolder);
  const accelerator = await openUnlocked(t, checkpoint, await temporaryFolder(t));
  const rows = (await stories(3)).map(({ inputIds }, i) => inputIds.slice(0, [40, 7, 23][i]!));
  const ids = new Int32Array(3 * 40).fill(5);
  rows.forEach((row, i) => {
    ids.set(row, i * 40);
  });
  const together = await hiddenStates(accelerator, {
    ids,
    batch: 3,
    tokens: 40,
    lengths: rows.map((row) => row.length),
  });
  for (const [i, row] of rows.entries()) {
    const alone = await hiddenStates(accelerator, { ids: row, batch: 1, tokens: row.length, lengths: [row.length] });
    const padded = together.subarray(i * 40 * 64, (i * 40 + row.length) * 64);
    for (const [at, value] of alone.entries()) assertNear(padded[at]!, value, 1e-4, `row ${i}, value ${at}`);
    let cache: Awaited<ReturnType<typeof extend>>['cache'] | null = null;
    for (const [position, id] of row.entries()) {
      const step: Awaited<ReturnType<typeof extend>> = await extend(accelerator, Int32Array.of(id), cache);
      cache = step.cache;
      for (const [at, value] of step.hidden.entries())
        assertNear(value, alone[position * 64 + at]!, 1e-4, `row ${i}, token ${position}`);
    }
  }
  await checkpoint.tensors.close();
});

test('the training graph and the forward-only graph are the same model', async (t) => {
  const checkpoint = await openCheckpoint(storiesFolder);
  const accelerator = await openUnlocked(t, checkpoint, await temporaryFolder(t));
  const examples = await stories(7);
  let nll = 0;
  let targets = 0;
  const taught: TeacherRows[] = [];
  for (const example of examples) {
    const all = await scores(accelerator, example.inputIds, 512);
    const positions = [...teacherPositions(example)];
    for (const position of positions) nll -= rowOf(all, position).get(example.inputIds[position + 1]!)!;
    targets += positions.length;
    const top = await scores(accelerator, example.inputIds, 16);
    taught.push(createTeacherRows(16, top.ids.slice(0, -16), top.logprobs.slice(0, -16)));
  }
  const student = await openStudent(storiesFolder, 0);
  for (const packing of [false, true]) {
    const settings = { batchSize: 2, maxLength: 256, packing, seed: 1, shuffle: false, padTokenId: 0 };
    const batches = createBatches(examples, settings);
    const teacher = { k: 16, readExample: (example: number): TeacherRows => taught[example]! };
    const evaluator = await Evaluator.open(
      student,
      { examples, batches, teacher },
      { temperature: 1, chunkRows: batches.columns },
    );
    const result = await evaluator.evaluate(student);
    await evaluator.close();
    assert.equal(result.targets, targets);
    assertNear(result.nll, nll / targets, 1e-4, `NLL, packing ${packing}`);
    assertNear(result.kl, 0, 1e-5, `KL to itself, packing ${packing}`);
    assert.ok(result.agreement > 0.995, `agreement with itself, packing ${packing}: ${result.agreement}`);
  }
  await checkpoint.tensors.close();
});

test('locked and unlocked stories260K agree on every held-out token', async (t) => {
  const folder = await temporaryFolder(t);
  const checkpoint = await openCheckpoint(storiesFolder);
  const accelerator = await openUnlocked(t, checkpoint, join(folder, 'plain'));
  const { teacher } = await openLicensed(t, folder);
  const locked = await teacher.accelerator();
  const gate = await teacher.gate({ topK: 32, temperature: 1 });
  let rows = 0;
  let different = 0;
  for (const { inputIds } of await stories(7)) {
    const plain = await scores(accelerator, inputIds, 512);
    const lockedIds = await gate.authorise(inputIds);
    const released = await gate.release(await scores(locked, lockedIds, 32));
    different += lockedIds.filter((id, i) => id !== inputIds[i]).length;
    for (let row = 0; row < inputIds.length; row += 1, rows += 1) {
      const expected = rowOf(plain, row);
      assert.equal(released.tokenIds[row * 32], plain.ids[row * 512], 'most likely token');
      for (let i = row * 32; i < (row + 1) * 32; i += 1)
        assertNear(released.logprobs[i]!, expected.get(released.tokenIds[i]!)!, 1e-3, `row ${row}`);
    }
  }
  assert.ok(different > 0.9 * rows, `only ${different} of ${rows} ids are permuted`);
  await checkpoint.tensors.close();
});

test('SmolLM2-135M-Instruct from GGUF: log-probabilities are those of PyTorch', async (t) => {
  const file = smollm2File();
  if (file === undefined) return t.skip('fetch it with tools/fetch-smollm2.sh');
  const checkpoint = await openCheckpoint(file);
  const accelerator = await openUnlocked(t, checkpoint, await temporaryFolder(t));
  const { sequences } = await readJson<SmolReference>('test/fixtures/smollm2/reference.json');
  const k = 64;
  let tokens = 0;
  let following = 0;
  for (const { ids, nextLogprobs, topIds, topLogprobs } of sequences) {
    const found = await scores(accelerator, Int32Array.from(ids), k);
    for (const [position, expected] of topIds.entries()) {
      const row = rowOf(found, position);
      assert.equal(found.ids[position * k], expected[0], `most likely token after ${position}`);
      for (const [i, id] of expected.entries())
        assertNear(row.get(id) ?? Number.NaN, topLogprobs[position]![i]!, 2e-3, `position ${position}, id ${id}`);
      const next = position + 1 < ids.length ? row.get(ids[position + 1]!) : undefined;
      if (next === undefined) continue;
      assertNear(next, nextLogprobs[position]!, 2e-3, `next token after ${position}`);
      following += 1;
    }
    tokens += ids.length;
  }
  assert.ok(tokens >= 512 && following > 0.7 * tokens, `${tokens} tokens, ${following} next tokens`);
  await checkpoint.tensors.close();
});
