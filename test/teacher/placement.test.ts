// Every placement of the bundled teacher gives the unlocked model's answers: in batches and token by token, streamed and resident.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { licenseHere } from '../../src/cli/experiment/on-one-machine.js';
import { openGate } from '../../src/edge/teacher/gate.js';
import { generate } from '../../src/edge/teacher/generate.js';
import { askRows, forward, releaseRows } from '../../src/edge/teacher/pass.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { shieldedPlan, uniformPlan } from '../../src/model/spans.js';
import type { EnclavePrecision, Plan, Scheme } from '../../src/trusted/wire/manifest.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { charged, licence, lockStories, openStories, openUnlocked, storiesFolder } from './stories-teacher.js';

const blocks = 5;
const k = 32;
const lengths = [40, 23, 31];
const layout = { batch: 3, tokens: 40, lengths };
const ids = Int32Array.from({ length: 94 }, (_, i) => 3 + ((i * 37) % 500));
/** Some positions of the padded batch, none of them padding. */
const positions = Int32Array.of(0, 17, 39, 40, 62, 80, 110);

interface Case {
  readonly name: string;
  readonly plan: Plan;
  readonly scheme?: Scheme;
  readonly precision?: EnclavePrecision;
  readonly teeMemoryMb?: number;
  /** Largest KL(unlocked‖locked) of a row over its k most likely tokens, in nats. */
  readonly tolerance: number;
}

const cases: readonly Case[] = [
  {
    name: 'accelerator, permutation',
    plan: uniformPlan(blocks, 'accelerator'),
    scheme: 'permutation',
    tolerance: 1e-5,
  },
  { name: 'accelerator, rotation', plan: uniformPlan(blocks, 'accelerator'), tolerance: 1e-5 },
  { name: 'shielded: embedding, head', plan: shieldedPlan(blocks, ['embedding', 'head']), tolerance: 1e-5 },
  { name: 'shielded: 1, 3', plan: shieldedPlan(blocks, ['1', '3']), tolerance: 1e-5 },
  {
    name: 'shielded: embedding, 0, 2, 4, head, permutation',
    plan: shieldedPlan(blocks, ['embedding', '0', '2', '4', 'head']),
    scheme: 'permutation',
    tolerance: 1e-5,
  },
  { name: 'shielded: 4, head', plan: shieldedPlan(blocks, ['4', 'head']), tolerance: 1e-5 },
  { name: 'enclave', plan: uniformPlan(blocks, 'enclave'), tolerance: 1e-5 },
  { name: 'enclave, streamed through 1.2 MB', plan: uniformPlan(blocks, 'enclave'), teeMemoryMb: 1.2, tolerance: 1e-5 },
  { name: 'enclave, int8', plan: uniformPlan(blocks, 'enclave'), precision: 'int8', tolerance: 0.1 },
  {
    name: 'enclave, int8, streamed through 0.5 MB',
    plan: uniformPlan(blocks, 'enclave'),
    precision: 'int8',
    teeMemoryMb: 0.5,
    tolerance: 0.1,
  },
];

for (const { name, plan, scheme, precision, teeMemoryMb, tolerance } of cases) {
  test(`${name}: answers as the unlocked model, in a batch and with a cache, and charged`, async (t) => {
    const folder = await temporaryFolder(t);
    const checkpoint = await openCheckpoint(storiesFolder);
    const plain = await openUnlocked(t, checkpoint, join(folder, 'plain'));
    await checkpoint.tensors.close();
    const options = { plan, ...(scheme ? { scheme } : {}), ...(precision ? { precision } : {}) };
    const locked = await lockStories(folder, options);
    const teacher = await openStories(t, locked, join(folder, 'state'), teeMemoryMb);
    await licenseHere(locked, teacher, licence());
    const accelerator = await teacher.accelerator();

    const rowsOf = async (on: typeof plain, gate: typeof openGate) =>
      releaseRows(gate, await askRows(on, await forward(on, gate, ids, layout), positions, k, 1));
    const expected = await rowsOf(plain, openGate);
    const released = await rowsOf(accelerator, await teacher.gate({ topK: k, temperature: 1 }));
    assert.equal(await charged(teacher), positions.length);
    for (let row = 0; row < positions.length; row++) {
      const own = new Map<number, number>();
      for (let i = row * k; i < (row + 1) * k; i++) own.set(released.tokenIds[i]!, released.logprobs[i]!);
      assert.equal(own.size, k);
      let kl = 0;
      for (let i = row * k; i < row * k + k / 2; i++) {
        const logprob = expected.logprobs[i]!;
        const found = own.get(expected.tokenIds[i]!);
        assert.ok(found !== undefined, `row ${row}, rank ${i - row * k} is not among the ${k} released`);
        const difference = logprob - found;
        if (precision !== 'int8')
          assert.ok(Math.abs(difference) <= 1e-3, `row ${row}, rank ${i - row * k}: ${difference}`);
        kl += Math.exp(logprob) * difference;
      }
      assert.ok(Math.abs(kl) <= tolerance, `row ${row}: ${kl} nats`);
    }

    if (precision === 'int8') return;
    const text = async (on: typeof plain, gate: typeof openGate): Promise<number[]> => {
      const settings = { maxNewTokens: 25, topK: k, temperature: 0, seed: 1, stopIds: new Set<number>() };
      const found: number[] = [];
      for await (const id of generate(on, gate, Int32Array.of(1, 403, 407), settings)) found.push(id);
      return found;
    };
    const gate = await teacher.gate({ topK: k, temperature: 1 });
    const greedy = await text(plain, openGate);
    assert.deepEqual(await text(accelerator, gate), greedy);
    assert.deepEqual(await text(accelerator, gate), greedy, 'a second text in the same session starts anew');
    assert.equal(await charged(teacher), positions.length + 50);
    assert.equal(teacher.client.egressBytesAfterUnlock, 0);
  });
}
