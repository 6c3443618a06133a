// What the lock is worth: the same student, text and steps, once with the licence and once with what the accelerator shows
// to whoever holds the bundle but no licence. Without a licence it must be no better than knowing token frequencies.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { compareStudents, frequencyOnlyKl } from '../../src/cli/experiment/compare.js';
import { licenseHere } from '../../src/cli/experiment/on-one-machine.js';
import { prepareData } from '../../src/edge/prepare.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { charged, licence, lockStories, openStories } from '../teacher/stories-teacher.js';
import { targetsIn, tinyJob } from './tiny-job.js';

test('a licensed student learns the teacher; an unlicensed one not even token frequencies', async (t) => {
  const folder = await temporaryFolder(t);
  const locked = await lockStories(folder);
  const licensed = await openStories(t, locked, join(folder, 'state'));
  const refused = await openStories(t, locked, join(folder, 'unlicensed-state'));
  await licenseHere(locked, licensed, licence({ precision: 'float16' }));
  const config = await tinyJob(folder, locked.bundleDir, {
    max_samples: 80,
    loss_top_k: 32,
    kd_ratio: 1,
    max_steps: 150,
    per_device_train_batch_size: 8,
    learning_rate: 1e-2,
    adam_beta2: 0.95,
    eval_steps: 1000,
    save_steps: 1000,
  });
  const data = await prepareData(config, locked.bundleDir);
  const result = await compareStudents(config, data, { licensed, refused }, { arms: ['authorised', 'unauthorised'] });
  const frequencyOnly = frequencyOnlyKl(data.train, result.evaluation, licensed.bundle.config.vocabSize);
  const [authorised, unauthorised] = [result.arms.authorised!.final, result.arms.unauthorised!.final];
  const kl = { start: result.start.kl, frequencyOnly, authorised: authorised.kl, unauthorised: unauthorised.kl };
  t.diagnostic(JSON.stringify({ kl, agreement: [authorised.agreement, unauthorised.agreement] }));

  assert.equal(result.refusal, 'not-unlocked');
  assert.ok(authorised.kl < 0.6 * result.start.kl, 'authorised: well below its start');
  assert.ok(authorised.kl < 0.8 * frequencyOnly, 'authorised: well below token frequencies');
  assert.ok(unauthorised.kl >= frequencyOnly, 'unauthorised: not below token frequencies');
  assert.ok(unauthorised.kl > 2 * authorised.kl);
  assert.ok(authorised.agreement > 2 * unauthorised.agreement);
  // Only the licensed arm was charged, and nothing left the device.
  assert.equal(await charged(licensed), targetsIn(data.train) + targetsIn(data.evaluation!));
  assert.equal((await refused.client.status()).state, 'fresh');
  assert.equal(licensed.client.egressBytesAfterUnlock, 0);
});
