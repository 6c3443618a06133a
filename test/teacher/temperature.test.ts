// What is released at a session's temperature T is the top-k and tail of softmax(z/T), whoever computes the head, and the student
// is compared with it at the same T.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { licenseHere } from '../../src/cli/experiment/on-one-machine.js';
import { createTeacherRows, type TeacherRows } from '../../src/edge/cache/rows.js';
import { createBatches } from '../../src/edge/data/batches.js';
import { createExample } from '../../src/edge/data/example.js';
import { openGate } from '../../src/edge/teacher/gate.js';
import { askRows, forward, releaseRows } from '../../src/edge/teacher/pass.js';
import { Evaluator } from '../../src/edge/train/evaluate.js';
import { openStudent } from '../../src/edge/train/student.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { uniformPlan } from '../../src/model/spans.js';
import { logSoftmax } from '../graph/loss-case.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { licence, lockStories, openStories, openUnlocked, storiesFolder } from './stories-teacher.js';

const vocabulary = 512;
const k = 24;
const ids = Int32Array.from({ length: 30 }, (_, i) => 3 + ((i * 37) % 500));
const layout = { batch: 1, tokens: ids.length, lengths: [ids.length] };
/** Every position but the last: the example's targets are all tokens but the first. */
const positions = Int32Array.from({ length: ids.length - 1 }, (_, i) => i);

for (const place of ['accelerator', 'enclave'] as const) {
  test(`released at a temperature: top-k and tail of softmax(z/T), head in the ${place}`, async (t) => {
    const folder = await temporaryFolder(t);
    const checkpoint = await openCheckpoint(storiesFolder);
    const plain = await openUnlocked(t, checkpoint, join(folder, 'plain'));
    await checkpoint.tensors.close();
    const whole = await releaseRows(
      openGate,
      await askRows(plain, await forward(plain, openGate, ids, layout), positions, vocabulary, 1),
    );
    const locked = await lockStories(folder, { plan: uniformPlan(5, place) });
    const teacher = await openStories(t, locked, join(folder, 'state'));
    await licenseHere(locked, teacher, licence());
    const accelerator = await teacher.accelerator();
    const student = await openStudent(storiesFolder, 0);

    for (const temperature of [0.5, 2]) {
      const gate = await teacher.gate({ topK: k, temperature });
      const asked = await askRows(
        accelerator,
        await forward(accelerator, gate, ids, layout),
        positions,
        k,
        temperature,
      );
      const released = await releaseRows(gate, asked);
      const rows = createTeacherRows(k, released.tokenIds, released.logprobs);
      for (let row = 0; row < rows.rows; row += 1) {
        const dense = new Float64Array(vocabulary);
        const softened = logSoftmax(
          [...whole.logprobs.subarray(row * vocabulary, (row + 1) * vocabulary)].map((l) => l / temperature),
        );
        softened.forEach((l, i) => {
          dense[whole.tokenIds[row * vocabulary + i]!] = l;
        });
        const ranked = dense.toSorted().reverse();
        let rest = 0;
        for (let i = 0; i < vocabulary; i += 1) if (i >= k) rest += Math.exp(ranked[i]!);
        for (let i = 0; i < k; i += 1) {
          const at = row * k + i;
          assert.ok(Math.abs(rows.logprobs[at]! - ranked[i]!) < 1e-3, `row ${row}, rank ${i}`);
          assert.ok(Math.abs(rows.logprobs[at]! - dense[rows.tokenIds[at]!]!) < 1e-3, `row ${row}, id of rank ${i}`);
        }
        assert.ok(Math.abs(Math.exp(rows.tail[row]!) - rest) < 1e-4, `row ${row}, tail`);
      }
      const own = await klAt(student, rows, temperature);
      assert.ok(Math.abs(own) < 1e-5, `KL to itself at temperature ${temperature}: ${own}`);
      // The control: compared at another temperature, the same model is far away.
      const other = await klAt(student, rows, 1);
      assert.ok(other > 0.02, `KL at temperature 1 to rows of ${temperature}: ${other}`);
    }
  });
}

async function klAt(student: Awaited<ReturnType<typeof openStudent>>, rows: TeacherRows, temperature: number) {
  const counted = new Uint8Array(ids.length).fill(1);
  counted[0] = 0;
  const examples = [createExample(ids, counted)];
  const settings = { batchSize: 1, maxLength: 32, packing: false, seed: 1, shuffle: false, padTokenId: 0 };
  const batches = createBatches(examples, settings);
  const data = { examples, batches, teacher: { k, readExample: () => rows } };
  const evaluator = await Evaluator.open(student, data, { temperature, chunkRows: batches.columns });
  const { kl } = await evaluator.evaluate(student);
  await evaluator.close();
  return kl;
}
