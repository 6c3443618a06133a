// kill -9 in the middle of a grant and of releases: the budget is never spent twice, and no key is left on the disk in the clear.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  holds,
  type KillTarget,
  keysOnDisk,
  killWhileReleasing,
  killWhileUnlocking,
} from '../../bench/workload/kill-enclave.js';
import { lockTiny, start, unlock } from '../enclave/licensed-enclave.js';

const rounds = 10;

test(`killed ${rounds} times while it accepts a grant: the licence is there unspent, or it is not there`, async (t) => {
  const bundle = await lockTiny(t);
  const { kept, lost, faults } = await killWhileUnlocking({ ...bundle, folder: join(bundle.folder, 'kills') }, rounds);
  assert.deepEqual(faults, []);
  assert.equal(kept + lost, rounds);
  assert.ok(lost > 0, 'the first kill comes before anything can be sealed');
});

test(`killed ${rounds} times while it releases: everything that was answered is charged, and the budget is the budget`, async (t) => {
  const bundle = await lockTiny(t);
  const target = { ...bundle, folder: join(bundle.folder, 'kills') };
  const { releasedTokens, chargedTokens, budgetTokens, cutRounds, faults } = await killWhileReleasing(target, rounds);
  assert.deepEqual(faults, []);
  assert.ok(cutRounds > 0, 'no kill hit a release');
  assert.ok(releasedTokens <= chargedTokens && chargedTokens === budgetTokens, `${releasedTokens} of ${chargedTokens}`);
  assert.ok(releasedTokens > budgetTokens / 2, 'most of the budget reached the caller');
});

test('the scan for keys finds each of them, however it is written, and passes what should be there', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  await unlock(bundle, enclave);
  const target: KillTarget = { ...bundle, folder: bundle.folder };
  const stateDir = join(bundle.folder, 'state');
  assert.deepEqual(keysOnDisk(target, stateDir), []);
  await mkdir(join(stateDir, 'deep'));
  const leak = join(stateDir, 'deep', 'leak');
  for (const [name, secret] of [
    ['bundle key', bundle.keys.bundleKey],
    ['lock seed', bundle.keys.lockSeed],
  ] as const) {
    await writeFile(leak, secret);
    assert.match(keysOnDisk(target, stateDir).join(), new RegExp(`the ${name} lies in the clear in .*leak`));
  }
  await rm(leak);
  await appendFile(join(bundle.bundleDir, 'manifest.json'), Buffer.from(bundle.keys.bundleKey).toString('hex'));
  assert.equal(keysOnDisk(target, stateDir).length, 1);

  const secret = randomBytes(32);
  for (const before of [0, 1, 2, 3]) {
    const padded = Buffer.concat([randomBytes(before), secret, randomBytes(5)]);
    assert.ok(holds(padded, secret));
    for (const encoding of ['hex', 'base64', 'base64url'] as const)
      assert.ok(holds(Buffer.from(`x${padded.toString(encoding)}y`), secret), `${encoding} after ${before} bytes`);
  }
  assert.ok(!holds(randomBytes(1000), secret));
});
