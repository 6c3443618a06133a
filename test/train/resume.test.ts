// A run that is stopped and resumed is the run that was not stopped, bit for bit; what cannot be resumed is refused by name.
import assert from 'node:assert/strict';
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Config } from '../../src/edge/config.js';
import { failsWith } from '../model/fixtures.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import {
  checkpointsIn,
  madeUpRows,
  metricsOf,
  stepsOf,
  tensorsOf,
  tinyData,
  tinyRun,
  tinyRunConfig,
} from './tiny-run.js';

const cases: Readonly<Record<string, Partial<Config>>> = {
  'packed, shuffled': { packing: true },
  'one example a row': { packing: false, lr_scheduler_type: 'linear', warmup_ratio: 0.25 },
  'accumulation 2, packed': { packing: true, gradient_accumulation_steps: 2 },
  'accumulation 2, one example a row': { packing: false, gradient_accumulation_steps: 2, kd_temperature: 2 },
};

for (const [name, changes] of Object.entries(cases)) {
  test(`stopped twice and resumed equals unbroken: ${name}`, async (t) => {
    const folder = await temporaryFolder(t);
    // The last step is saved, so that its moments can be compared too.
    const [whole, broken] = [join(folder, 'whole'), join(folder, 'broken')];
    const unbroken = await tinyRun(whole, changes);
    const beforeEnd = await tinyRun(join(folder, 'before-end'), changes, { stopAfter: 11 });
    assert.equal(beforeEnd.outcome.interrupted, true);

    const first = await tinyRun(broken, changes, { stopAfter: 4 });
    assert.deepEqual([first.outcome.interrupted, first.outcome.steps, first.outcome.final], [true, 4, null]);
    const second = await tinyRun(broken, { ...changes, resume_from_checkpoint: true }, { stopAfter: 11 });
    assert.equal(second.outcome.steps, 11);
    const [a, b] = [join(folder, 'before-end/checkpoint-11'), join(broken, 'checkpoint-11')];
    for (const file of ['model.safetensors', 'optimizer.safetensors', 'trainer_state.json'])
      if (file.endsWith('.json')) assert.equal(await stepsOf(a), await stepsOf(b));
      else assert.deepEqual(await tensorsOf(join(b, file)), await tensorsOf(join(a, file)), file);
    const moments = await tensorsOf(join(b, 'optimizer.safetensors'));
    assert.ok(moments.get('m:model.embed_tokens.weight')!.some((x) => x !== 0));

    const third = await tinyRun(broken, { ...changes, resume_from_checkpoint: true });
    assert.deepEqual([third.outcome.interrupted, third.outcome.steps], [false, 12]);
    assert.equal(third.outcome.tokens, unbroken.outcome.tokens);
    assert.deepEqual(third.outcome.final, unbroken.outcome.final);
    assert.deepEqual(third.student.parameters, unbroken.student.parameters);
    assert.deepEqual(
      await readFile(join(broken, 'model.safetensors')),
      await readFile(join(whole, 'model.safetensors')),
    );
    const metrics = await metricsOf(whole);
    assert.deepEqual(
      metrics.map(({ step }) => step),
      [3, 5, 6, 9, 10, 12, 12],
    );
    assert.deepEqual(await metricsOf(broken), metrics);
  });
}

test('accumulating 2 × 2 rows is one batch of 4 rows', async (t) => {
  const folder = await temporaryFolder(t);
  const changes = { packing: false, max_steps: 8, learning_rate: 1e-3 };
  const one = await tinyRun(join(folder, 'one'), { ...changes, per_device_train_batch_size: 4 }, { examples: 16 });
  const two = await tinyRun(join(folder, 'two'), { ...changes, gradient_accumulation_steps: 2 }, { examples: 16 });
  assert.equal(one.outcome.tokens, two.outcome.tokens);
  let moved = 0;
  const start = (await tinyRun(join(folder, 'start'), { ...changes, max_steps: 1, learning_rate: 1e-9 })).student;
  for (const [name, { data }] of one.student.parameters)
    data.forEach((value, i) => {
      const other = two.student.parameters.get(name)!.data[i]!;
      assert.ok(Math.abs(value - other) <= 1e-5, `${name}[${i}]: ${value} and ${other}`);
      moved = Math.max(moved, Math.abs(value - start.parameters.get(name)!.data[i]!));
    });
  assert.ok(moved > 1e-3, `the parameters moved by ${moved} only`);
});

test('a loss that is not a number stops the run, keeps the last good checkpoint and can be resumed', async (t) => {
  const folder = await temporaryFolder(t);
  const output = join(folder, 'out');
  const changes: Partial<Config> = { packing: false, save_steps: 2 };
  const healthy = tinyData(tinyRunConfig(output, changes), 'train', 13);
  let reads = 0;
  const readExample = (i: number): ReturnType<typeof madeUpRows> => {
    const rows = madeUpRows(healthy.examples[i]!, i);
    reads += 1;
    // Two examples a step: the fifth step is the first to meet a broken row.
    if (reads > 8) rows.logprobs.fill(Number.NaN);
    return rows;
  };
  const data = { ...healthy, teacher: { ...healthy.teacher!, readExample } };
  await assert.rejects(tinyRun(output, changes, { data }), failsWith('loss-not-finite', 'step 5', 'checkpoint-4'));
  assert.deepEqual(await checkpointsIn(output), ['checkpoint-2', 'checkpoint-4']);
  for (const values of (await tensorsOf(join(output, 'checkpoint-4/model.safetensors'))).values())
    assert.ok(values.every(Number.isFinite));
  const resumed = await tinyRun(output, { ...changes, resume_from_checkpoint: true });
  const unbroken = await tinyRun(join(folder, 'unbroken'), changes);
  assert.deepEqual(resumed.student.parameters, unbroken.student.parameters);
});

test('resuming with other settings, text or teacher is refused, and the setting named', async (t) => {
  const folder = await temporaryFolder(t);
  await tinyRun(folder, {}, { stopAfter: 2 });
  const changed: Partial<Config>[] = [
    { learning_rate: 2e-2 },
    { seed: 43 },
    { max_steps: 13 },
    { packing: false },
    { max_length: 40 },
    { kd_ratio: 0.5 },
    { loss: 'reverse_kl' },
    { kd_temperature: 2 },
    { lr_scheduler_type: 'linear' },
    { per_device_train_batch_size: 1 },
    { gradient_accumulation_steps: 2 },
    { adam_beta2: 0.95 },
    { weight_decay: 0 },
    { max_grad_norm: 0 },
  ];
  for (const change of changed) {
    const [key] = Object.keys(change);
    const resumed = tinyRun(folder, { ...change, resume_from_checkpoint: true });
    await assert.rejects(resumed, failsWith('resume-mismatch', 'checkpoint-2', key!));
  }
  const same = { resume_from_checkpoint: true };
  const data = tinyData(tinyRunConfig(folder), 'train', 13);
  const otherTeacher = { ...data, teacher: { ...data.teacher!, source: 'another' } };
  await assert.rejects(tinyRun(folder, same, { examples: 14 }), failsWith('resume-mismatch', 'dataset_sha256'));
  await assert.rejects(tinyRun(folder, same, { data: otherTeacher }), failsWith('resume-mismatch', 'teacher'));
  // What changes nothing but the bookkeeping may change.
  const resumed = await tinyRun(folder, { ...same, logging_steps: 1, save_steps: 50 });
  assert.equal(resumed.outcome.steps, 12);
});

test('save_total_limit keeps the newest; torn and foreign folders are not resumed from', async (t) => {
  const folder = await temporaryFolder(t);
  const changes: Partial<Config> = { save_steps: 2, save_total_limit: 3 };
  const saved: string[] = [];
  await tinyRun(folder, changes, { stopAfter: 9, events: { onSave: (path) => saved.push(path) } });
  assert.deepEqual(
    saved,
    [2, 4, 6, 8, 9].map((step) => join(folder, `checkpoint-${step}`)),
  );
  assert.deepEqual(await checkpointsIn(folder), ['checkpoint-6', 'checkpoint-8', 'checkpoint-9']);
  for (const torn of ['checkpoint-11.tmp', 'checkpoint-x']) {
    await mkdir(join(folder, torn));
    await writeFile(join(folder, torn, 'model.safetensors'), 'torn');
  }
  const steps: number[] = [];
  const resume = { ...changes, resume_from_checkpoint: true };
  await tinyRun(folder, resume, { stopAfter: 11, events: { onStep: ({ step }) => steps.push(step) } });
  assert.deepEqual(steps, [10, 11]);
  assert.deepEqual(await checkpointsIn(folder), ['checkpoint-10', 'checkpoint-11', 'checkpoint-9', 'checkpoint-x']);

  await truncate(join(folder, 'checkpoint-11/optimizer.safetensors'), 500);
  await assert.rejects(tinyRun(folder, resume), /optimizer\.safetensors/);
  await writeFile(join(folder, 'checkpoint-11/trainer_state.json'), '{"step": 11');
  await assert.rejects(tinyRun(folder, resume), failsWith('resume-state', 'checkpoint-11'));
  const older = { ...changes, resume_from_checkpoint: join(folder, 'checkpoint-10') };
  assert.equal((await tinyRun(folder, older)).outcome.steps, 12);
});
