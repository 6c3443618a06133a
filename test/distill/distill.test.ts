// The data owner's whole job against a real enclave process: what it costs, what survives a kill, what is refused.
import assert from 'node:assert/strict';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { licenseHere } from '../../src/cli/experiment/on-one-machine.js';
import { type DistillEvents, distill } from '../../src/edge/distill.js';
import { openStudent, parameterCount } from '../../src/edge/train/student.js';
import { ProtocolError } from '../../src/trusted/wire/errors.js';
import { failsWith } from '../model/fixtures.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { charged, licence, lockStories, openLicensed, openStories, storiesFolder } from '../teacher/stories-teacher.js';
import { rowsNeeded, tinyJob } from './tiny-job.js';

test('every target costs one token, once; a stopped job goes on to the same student', async (t) => {
  const folder = await temporaryFolder(t);
  const { teacher, granted, locked } = await openLicensed(t, folder);
  const config = await tinyJob(folder, locked.bundleDir);
  const needed = await rowsNeeded(config, locked.bundleDir);
  assert.ok(needed.train > 1000 && needed.evaluation > 200);

  const first = await distill(config, teacher);
  assert.equal(await charged(teacher), needed.all);
  assert.deepEqual([first.captured.train?.rows, first.captured.evaluation?.rows], [needed.train, needed.evaluation]);
  assert.deepEqual([first.interrupted, first.training?.steps, first.training?.interrupted], [false, 8, false]);
  assert.ok(Number.isFinite(first.training?.final?.kl) && first.training!.final!.targets === needed.evaluation);
  const student = await openStudent(config.output_dir, 0);
  assert.equal(parameterCount(student), first.student.parameters);
  assert.deepEqual(
    Buffer.from(student.tokenizer!['tokenizer.json']),
    await readFile(join(storiesFolder, 'tokenizer.json')),
  );

  const again = { ...config, output_dir: join(folder, 'again') };
  const controller = new AbortController();
  const events: DistillEvents = { onStep: ({ step }) => step === 3 && controller.abort() };
  const stopped = await distill(again, teacher, { events, signal: controller.signal });
  assert.deepEqual([stopped.interrupted, stopped.training?.steps], [true, 3]);
  const resumed = await distill({ ...again, resume_from_checkpoint: true }, teacher);
  assert.deepEqual([resumed.captured.train?.rows, resumed.captured.evaluation?.rows], [0, 0]);
  assert.deepEqual(resumed.training?.final, first.training?.final);
  assert.deepEqual(
    await readFile(join(again.output_dir, 'model.safetensors')),
    await readFile(join(config.output_dir, 'model.safetensors')),
  );
  assert.equal(await charged(teacher), needed.all);

  const without = { ...config, output_dir: join(folder, 'text-only'), kd_ratio: 0, max_steps: 2 };
  assert.equal((await distill(without, teacher)).captured.train, null);
  assert.equal(await charged(teacher), needed.all);
  assert.equal(teacher.client.egressBytesAfterUnlock, 0);
  const { receipt } = await granted.destroy();
  assert.deepEqual(
    receipt.licences.map(({ chargedTokens }) => chargedTokens),
    [needed.all],
  );
});

test('an output folder belongs to one run at a time and is never overwritten', async (t) => {
  const folder = await temporaryFolder(t);
  const { teacher, locked } = await openLicensed(t, folder);
  const config = await tinyJob(folder, locked.bundleDir, { max_steps: 2, max_samples: 5 });
  let second: Promise<unknown> = Promise.resolve();
  const onData = (): void => {
    second = assert.rejects(distill(config, teacher), failsWith('run-locked', config.output_dir, String(process.pid)));
  };
  await distill(config, teacher, { events: { onData } });
  await second;
  const before = await readFile(join(config.output_dir, 'model.safetensors'));
  await assert.rejects(distill(config, teacher), failsWith('output-dir-used', config.output_dir));
  assert.deepEqual(await readFile(join(config.output_dir, 'model.safetensors')), before);
});

test('enclave killed while capturing: the run stops, restarts and charges nothing twice', async (t) => {
  const folder = await temporaryFolder(t);
  const { teacher, locked } = await openLicensed(t, folder);
  const config = await tinyJob(folder, locked.bundleDir, { max_samples: 45, max_steps: 2 });
  const needed = await rowsNeeded(config, locked.bundleDir);
  assert.ok(needed.train > 2 * 4096, `${needed.train} rows make fewer than three shards`);
  let captured = 0;
  let killed = false;
  const onCapture: DistillEvents['onCapture'] = (purpose, { rows }) => {
    captured = purpose === 'train' ? needed.evaluation + rows : rows;
    // In the second shard of the training text. Once: answers still under way report progress after the process is gone.
    if (purpose !== 'train' || rows <= 6000 || killed) return;
    killed = true;
    process.kill(teacher.process!.pid, 'SIGKILL');
  };
  await assert.rejects(distill(config, teacher, { events: { onCapture } }), (error) => {
    assert.ok(error instanceof ProtocolError);
    return failsWith('enclave-gone')(error);
  });
  await teacher.process!.exited();

  const restarted = await openStories(t, locked, join(folder, 'state'));
  const status = await restarted.client.status();
  assert.equal(status.state, 'unlocked');
  const afterKill = status.licence!.chargedTokens;
  // What was answered is charged; the release under way when it died may be.
  assert.ok(afterKill >= captured && afterKill <= captured + 1024, `charged ${afterKill}, captured ${captured}`);
  const outcome = await distill(config, restarted);
  assert.equal(outcome.training?.steps, 2);
  assert.equal(outcome.captured.evaluation?.rows, 0);
  const again = outcome.captured.train!.rows;
  assert.equal(again, needed.all - captured, 'every batch that was answered is kept');
  assert.equal(await charged(restarted), afterKill + again);
  assert.ok(afterKill + again >= needed.all);
  const receipt = await restarted.client.destroy();
  assert.ok(receipt.length > 0);
});

test('stopped while capturing: no student yet, no error, and the next run goes on', async (t) => {
  const folder = await temporaryFolder(t);
  const { teacher, locked } = await openLicensed(t, folder);
  const config = await tinyJob(folder, locked.bundleDir, { max_steps: 2 });
  const needed = await rowsNeeded(config, locked.bundleDir);
  const controller = new AbortController();
  const events: DistillEvents = { onCapture: (purpose) => purpose === 'train' && controller.abort() };
  const stopped = await distill(config, teacher, { events, signal: controller.signal });
  assert.deepEqual([stopped.interrupted, stopped.training], [true, null]);
  const first = stopped.captured.train!.rows;
  assert.ok(first > 0 && first < needed.train);
  const outcome = await distill(config, teacher);
  assert.deepEqual([outcome.interrupted, outcome.training?.steps], [false, 2]);
  assert.equal(outcome.captured.train?.rows, needed.train - first);
  assert.equal(await charged(teacher), needed.all);
});

test('a licence that runs out stops the job by name; the next licence goes on where it was', async (t) => {
  const folder = await temporaryFolder(t);
  const locked = await lockStories(folder);
  const teacher = await openStories(t, locked, join(folder, 'state'));
  const config = await tinyJob(folder, locked.bundleDir, { max_steps: 2 });
  const needed = await rowsNeeded(config, locked.bundleDir);
  await assert.rejects(distill(config, teacher), failsWith('enclave-fresh', 'no licence'));
  const budgetTokens = needed.evaluation + Math.floor(needed.train / 2);
  await licenseHere(locked, teacher, licence({ budgetTokens }));
  await assert.rejects(distill(config, teacher), { kind: 'policy', code: 'budget-exhausted' });
  const spent = await charged(teacher);
  assert.ok(spent > needed.evaluation && spent <= budgetTokens);
  // What the last batch did not fit into lapses with the next licence.
  const missing = needed.all - spent;
  await licenseHere(locked, teacher, licence({ budgetTokens: missing }));
  const outcome = await distill(config, teacher);
  assert.equal(outcome.training?.steps, 2);
  assert.deepEqual([outcome.captured.evaluation?.rows, outcome.captured.train?.rows], [0, missing]);
  assert.equal(await charged(teacher), missing);
  // Used up to the last token; what is cached needs no licence.
  assert.equal((await teacher.client.status()).state, 'exhausted');
  const cached = await distill({ ...config, output_dir: join(folder, 'cached') }, teacher);
  assert.deepEqual(cached.training?.final, outcome.training?.final);
  const more = { ...config, output_dir: join(folder, 'more'), max_samples: 13 };
  await assert.rejects(distill(more, teacher), failsWith('enclave-exhausted', 'new one'));
});

test('a student that does not fit the teacher is refused before anything is charged', async (t) => {
  const folder = await temporaryFolder(t);
  const { teacher, locked } = await openLicensed(t, folder);
  const config = await tinyJob(folder, locked.bundleDir);
  const foreign = join(folder, 'foreign');
  await cp(storiesFolder, foreign, { recursive: true });
  const file = join(foreign, 'tokenizer.json');
  const tokenizer = JSON.parse(await readFile(file, 'utf8')) as { model: { vocab: Record<string, number> } };
  const [a, b] = Object.keys(tokenizer.model.vocab).slice(-2) as [string, string];
  const { vocab } = tokenizer.model;
  [vocab[a], vocab[b]] = [vocab[b]!, vocab[a]!];
  await writeFile(file, JSON.stringify(tokenizer));
  const refused = (changes: Partial<typeof config>): Promise<unknown> => distill({ ...config, ...changes }, teacher);
  await assert.rejects(refused({ model_name_or_path: foreign }), failsWith('tokenizer-mismatch', foreign));
  await assert.rejects(refused({ max_length: 1024 }), failsWith('max-length', '1024', '512'));
  await assert.rejects(refused({ loss_top_k: 65 }), { kind: 'policy', code: 'top-k-too-large' });
  await assert.rejects(refused({ kd_temperature: 4 }), { kind: 'policy', code: 'temperature-not-licensed' });
  assert.equal(await charged(teacher), 0);
});
