// Text through the enclave: the reference's own continuation, reproducible sampling, and what it costs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type GenerateOptions, generate } from '../../src/edge/teacher/generate.js';
import type { LockedTeacher } from '../../src/edge/teacher/locked-teacher.js';
import { readJson } from '../model/fixtures.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { charged, openLicensed } from './stories-teacher.js';

const greedy: GenerateOptions = { maxNewTokens: 100, topK: 1, temperature: 0, seed: 0, stopIds: new Set() };

async function collect(teacher: LockedTeacher, promptIds: readonly number[], changes: Partial<GenerateOptions> = {}) {
  const options = { ...greedy, ...changes };
  const gate = await teacher.gate({ topK: options.topK, temperature: options.temperature || 1 });
  const ids: number[] = [];
  for await (const id of generate(await teacher.accelerator(), gate, Int32Array.from(promptIds), options)) ids.push(id);
  return ids;
}

interface Reference {
  readonly cases: readonly { readonly promptIds: number[]; readonly greedyIds: number[] }[];
}

test('greedy text through the enclave is the reference; each token costs one', async (t) => {
  const { teacher } = await openLicensed(t, await temporaryFolder(t));
  const { cases } = await readJson<Reference>('test/fixtures/stories260k/expected.json');
  let total = 0;
  for (const [i, { promptIds, greedyIds }] of cases.entries()) {
    const maxNewTokens = [100, 20, 20][i]!;
    assert.deepEqual(await collect(teacher, promptIds, { maxNewTokens }), greedyIds.slice(0, maxNewTokens));
    total += maxNewTokens;
    assert.equal(await charged(teacher), total);
  }
  assert.equal(total, 140);
  assert.equal(teacher.client.egressBytesAfterUnlock, 0);
});

test('a stop token is not given out, and costs one like any released token; prompts cost nothing', async (t) => {
  const { teacher } = await openLicensed(t, await temporaryFolder(t));
  const { cases } = await readJson<Reference>('test/fixtures/stories260k/expected.json');
  const { promptIds, greedyIds } = cases[0]!;
  const stop = greedyIds[12]!;
  const first = greedyIds.indexOf(stop);
  assert.deepEqual(await collect(teacher, promptIds, { stopIds: new Set([stop]) }), greedyIds.slice(0, first));
  assert.equal(await charged(teacher), first + 1);
  assert.deepEqual(await collect(teacher, promptIds, { maxNewTokens: 0 }), []);
  assert.equal(await charged(teacher), first + 1);
});

test('sampled text is a function of the seed', async (t) => {
  const { teacher } = await openLicensed(t, await temporaryFolder(t));
  const sampled = (seed: number): Promise<number[]> =>
    collect(teacher, [1, 403, 407], { maxNewTokens: 25, topK: 32, temperature: 1.2, seed });
  const [a, again, b] = [await sampled(1), await sampled(1), await sampled(2)];
  assert.deepEqual(a, again);
  assert.notDeepEqual(a, b);
  assert.equal(await charged(teacher), 75);
});

test('a licence that runs out ends the text with budget-exhausted, and a signal ends it quietly', async (t) => {
  const { teacher } = await openLicensed(t, await temporaryFolder(t), { budgetTokens: 15 });
  const controller = new AbortController();
  const gate = await teacher.gate({ topK: 1, temperature: 1 });
  const options = { ...greedy, signal: controller.signal };
  const given: number[] = [];
  for await (const id of generate(await teacher.accelerator(), gate, Int32Array.of(1, 403), options)) {
    if (given.push(id) === 5) controller.abort();
  }
  assert.equal(given.length, 5);
  assert.equal(await charged(teacher), 5);
  await assert.rejects(collect(teacher, [1, 403]), { kind: 'policy', code: 'budget-exhausted' });
  assert.equal(await charged(teacher), 15);
});
