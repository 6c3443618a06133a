// A tiny student learns from a cached teacher by every divergence: its loss falls, the log names it, and what is measured on
// held-out text stays KL(teacher‖student).
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createTeacherRows, type TeacherRows } from '../../src/edge/cache/rows.js';
import { openTeacherCache } from '../../src/edge/cache/teacher-cache.js';
import type { Config } from '../../src/edge/config.js';
import { countTargets, type Example, hashExamples, teacherPositions } from '../../src/edge/data/example.js';
import { describeLoss, divergenceFor } from '../../src/edge/loss-settings.js';
import { batchesFor } from '../../src/edge/prepare.js';
import type { TrainingData } from '../../src/edge/train/training-data.js';
import { tinyConfig } from '../owner/tiny-model.js';
import { metricsOf, randomExamples, tinyRun, tinyRunConfig } from './tiny-run.js';

const k = 4;
const temperature = 2;
const root = mkdtempSync(join(tmpdir(), 'distillock-losses-'));
after(() => rmSync(root, { recursive: true }));

/** A teacher that prefers the four tokens after each. */
function teach(example: Example): TeacherRows {
  const { vocabSize } = tinyConfig;
  const ids = Array.from(teacherPositions(example), (p) =>
    Array.from({ length: k }, (_, i) => (example.inputIds[p]! + 1 + i) % vocabSize),
  ).flat();
  const logprobs = ids.map((_, i) => Math.log([0.5, 0.2, 0.1, 0.05][i % k]!));
  return createTeacherRows(k, Int32Array.from(ids), Float32Array.from(logprobs));
}

/** The teacher's rows in a cache on disk, written once. */
async function cachedData(config: Config): Promise<TrainingData> {
  const examples = randomExamples(13);
  const key = {
    bundleId: 'made up',
    tokenizerHash: 't',
    textHash: hashExamples(examples),
    k,
    temperature,
    precision: config.cache_precision,
    vocabSize: tinyConfig.vocabSize,
  };
  const cache = await openTeacherCache(join(root, 'cache'), key, examples.map(countTargets));
  for (const shard of cache.missingShards()) {
    const [start, end] = cache.examplesOf(shard);
    await cache.writeShard(shard, examples.slice(start, end).map(teach));
  }
  return {
    examples,
    batches: batchesFor(config, examples, 'train', 0),
    teacher: { k, source: 'cache', readExample: (i) => cache.readExample(i) },
  };
}

const losses: readonly Partial<Config>[] = [
  { loss: 'forward_kl' },
  { loss: 'reverse_kl' },
  { loss: 'jsd', beta: 0.5 },
  { beta: 0.1 },
  { loss: 'skew_kl' },
  { loss: 'skew_reverse_kl', skew_alpha: 0.2 },
  { loss: 'tvd' },
];

async function trained(name: string, changes: Partial<Config>) {
  const config = tinyRunConfig(join(root, name), { kd_temperature: temperature, ...changes });
  const data = await cachedData(config);
  await tinyRun(config.output_dir, { kd_temperature: temperature, ...changes }, { data });
  return { config, lines: await metricsOf(config.output_dir) };
}

for (const [i, change] of losses.entries()) {
  test(`${describeLoss(tinyRunConfig('o', { ...change, kd_ratio: 1 }))}: falls, and is named in the log`, async () => {
    const settings = { ...change, kd_ratio: 1, max_steps: 60, logging_steps: 5, eval_steps: 100 };
    const { config, lines } = await trained(`falls-${i}`, settings);
    const steps = lines.filter((line) => line.loss !== undefined);
    assert.equal(steps.length, 12);
    const [first, last] = [steps[0]!, steps.at(-1)!];
    assert.ok(last.loss! > 0 && last.loss! < 0.75 * first.loss!, `${first.loss} → ${last.loss}`);
    for (const line of steps) {
      assert.ok(Math.abs(line.loss! - temperature ** 2 * line.kd!) < 1e-9, 'loss = T² × divergence');
      assert.equal(line.kd_loss, divergenceFor(config).label);
    }
  });
}

test('held-out KL is the forward KL under every loss', async () => {
  const measured: number[] = [];
  const reported = new Set<number>();
  for (const [i, change] of losses.entries()) {
    // Too small a step to move a float32: every run evaluates the same student.
    const { lines } = await trained(`still-${i}`, { ...change, learning_rate: 1e-30, max_steps: 1 });
    measured.push(lines.at(-1)!.eval_kl!);
    reported.add(lines[0]!.kd!);
  }
  assert.equal(new Set(measured).size, 1, measured.join());
  assert.equal(reported.size, losses.length, 'the divergences themselves differ');
});

test('without a teacher no divergence is named', async () => {
  const { config, lines } = await trained('text', { loss: 'jsd', kd_ratio: 0, max_steps: 3 });
  assert.equal(describeLoss(config), 'cross-entropy');
  for (const line of lines) assert.equal(line.kd_loss, undefined);
});

test('the loss in a line: weights, T² and the parameter', () => {
  const line = (changes: Partial<Config>): string => describeLoss(tinyRunConfig('o', changes));
  assert.equal(line({}), '0.1 × cross-entropy + 0.9 × forward_kl');
  assert.equal(line({ kd_ratio: 1, beta: 0.5, kd_temperature: 2 }), '2² × jsd(beta=0.5)');
  assert.equal(line({ kd_ratio: 0.5, loss: 'skew_kl' }), '0.5 × cross-entropy + 0.5 × skew_kl(skew_alpha=0.1)');
});
