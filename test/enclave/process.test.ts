// The simulated enclave as a process: full conversation, budget across kill -9, pipelining, death mid-call, no orphans.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { verifyReceipt } from '../../src/attest/receipt.js';
import { EnclaveClient } from '../../src/edge/enclave/client.js';
import { bubblewrapWorks } from '../../src/edge/enclave/sandbox.js';
import { grantLicence } from '../../src/owner/grant.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import { tinyConfig } from '../owner/tiny-model.js';
import { appraised, lockTiny, start, terms, unlock } from './licensed-enclave.js';

const ids = Int32Array.of(5, 0, 96, 5);

/** `rows` rows of k locked ids, equal in every row. */
function lockedRows(
  rows: number,
  k: number,
): { rows: number; k: number; lockedIds: Int32Array; logprobs: Float32Array } {
  const lockedIds = Int32Array.from({ length: rows * k }, (_, i) => i % k);
  return { rows, k, lockedIds, logprobs: Float32Array.from({ length: rows * k }, (_, i) => -1 - (i % k)) };
}

/** A zombie that nobody has reaped yet counts as dead: it has no executable. */
function isAlive(pid: number): boolean {
  if (existsSync('/proc/self/exe')) return existsSync(`/proc/${pid}/exe`);
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('a token given out is authorised without waiting; a refusal shows at the release after it', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  const { client } = enclave;
  await unlock(bundle, enclave, { budgetTokens: 3 });
  const vocabulary = vocabularyPermutation(bundle.keys.lockSeed, 'rotation', tinyConfig.vocabSize);
  const session = await client.begin({ topK: 8, temperature: 1 });
  await session.authorise(ids);
  const row = lockedRows(1, 4);
  const { tokenIds } = await session.release(row);
  for (const id of tokenIds.subarray(0, 2))
    assert.deepEqual([...(await session.authorise(Int32Array.of(id)))], [vocabulary[id]]);
  await session.release(row);
  await session.release(row);
  assert.equal((await client.status()).state, 'exhausted');
  assert.deepEqual([...(await session.authorise(tokenIds.subarray(0, 1)))], [vocabulary[tokenIds[0]!]]);
  await assert.rejects(session.release(row), { code: 'budget-exhausted' });
  await client.destroy();
  await session.authorise(tokenIds.subarray(0, 1));
  await assert.rejects(session.release(row), { code: 'destroyed' });
});

test('authorise and release of a token at a time count every token', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  await unlock(bundle, enclave);
  const session = await enclave.client.begin({ topK: 8, temperature: 1 });
  await session.authorise(ids.subarray(0, 1));
  const row = lockedRows(1, 4);
  for (let i = 0; i < 5; i++)
    await session.authorise((await session.release(row)).tokenIds.subarray(i % 4, (i % 4) + 1));
  assert.equal((await enclave.client.status()).licence?.chargedTokens, 5);
  await session.release(row);
  await assert.rejects(session.release(row), { code: 'release-not-authorised' });
});

test('attest, grant, unlock, authorise, release, destroy', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  const { client, process: child } = enclave;
  assert.match(child.label, /^SIMULATED/);
  assert.equal((await client.status()).state, 'fresh');
  const evidence = await appraised(bundle, enclave);
  assert.equal((await client.status()).state, 'attested');
  const { grant, licence } = await grantLicence({ keys: bundle.keys, evidence, terms: terms() });
  const status = await client.unlock(grant);
  assert.equal(status.state, 'unlocked');
  assert.equal(status.licence?.licenceId, licence.licenceId);
  assert.equal(status.licence.remainingTokens, 100);

  const vocabulary = vocabularyPermutation(bundle.keys.lockSeed, 'rotation', tinyConfig.vocabSize);
  const session = await client.begin({ topK: 8, temperature: 1 });
  const locked = await session.authorise(ids);
  assert.deepEqual(
    [...locked],
    [...ids].map((id) => vocabulary[id]!),
  );
  const lockedIds = Int32Array.of(vocabulary[7]!, vocabulary[8]!);
  const released = await session.release({ rows: 1, k: 2, lockedIds, logprobs: Float32Array.of(-0.5, -2) });
  assert.deepEqual([...released.tokenIds], [7, 8]);
  assert.deepEqual([...released.logprobs], [-0.5, -2]);
  assert.equal((await client.status()).licence?.chargedTokens, 1);
  await session.end();
  await assert.rejects(session.authorise(ids), { code: 'unknown-session' });

  assert.equal(client.egressBytesAfterUnlock, 0);
  assert.deepEqual(
    client.ledger.entries.map((entry) => `${entry.direction} ${entry.purpose}`),
    ['out evidence', 'in grant'],
  );
  assert.ok(client.traffic.bytesSent > 0 && client.traffic.bytesReceived > 0);

  const receipt = await client.destroy();
  const { licenceId } = licence;
  const entry = { licenceId, budgetTokens: 100, chargedTokens: 1 };
  const read = verifyReceipt(receipt, evidence.claims.signingKey);
  assert.deepEqual(read.licences, [entry]);
  assert.equal(read.bundleId, bundle.bundleId);
  assert.equal(read.reason, 'requested');
  const altered = receipt.slice();
  altered[altered.length - 10]! ^= 1;
  assert.throws(() => verifyReceipt(altered, evidence.claims.signingKey));
  await assert.rejects(client.attest(new Uint8Array(32)), { code: 'destroyed' });
  await assert.rejects(client.unlock(grant), { code: 'destroyed' });
  await assert.rejects(client.begin({ topK: 1, temperature: 1 }), { code: 'destroyed' });
  await child.stop();
  const again = await start(t, bundle);
  assert.equal((await again.client.status()).state, 'destroyed');
  assert.deepEqual(await again.client.destroy(), receipt);
});

test('the budget is counted exactly across kill -9 and restart, and exhausts', async (t) => {
  const bundle = await lockTiny(t);
  let enclave = await start(t, bundle);
  await unlock(bundle, enclave, { budgetTokens: 50 });
  let released = 0;
  for (let round = 0; round < 4; round++) {
    const { client, process: child } = enclave;
    const session = await client.begin({ topK: 4, temperature: 1 });
    await session.authorise(new Int32Array(64));
    for (let i = 0; i < round + 1; i++) {
      await session.release(lockedRows(4, 4));
      released += 4;
    }
    // A release that is in flight when the process dies: charged or not, but never answered without being charged.
    const inFlight = session.release(lockedRows(1, 4)).then(
      () => 1,
      () => 0,
    );
    if (round === 3) await inFlight;
    process.kill(child.pid, 'SIGKILL');
    released += await inFlight;
    await child.exited();
    enclave = await start(t, bundle);
    const status = await enclave.client.status();
    const charged = status.licence?.chargedTokens ?? 0;
    assert.equal(status.state, 'unlocked');
    assert.ok(charged === released || charged === released + 1, `charged ${charged}, released ${released}`);
    released = charged;
  }
  const session = await enclave.client.begin({ topK: 4, temperature: 1 });
  await session.authorise(new Int32Array(64));
  const left = 50 - released;
  const tooMany = session.release(lockedRows(left + 1, 4));
  await assert.rejects(tooMany, {
    kind: 'policy',
    code: 'budget-exhausted',
    details: { remainingTokens: left, requestedTokens: left + 1 },
  });
  assert.equal((await enclave.client.status()).licence?.chargedTokens, released);
  await session.release(lockedRows(left, 4));
  assert.equal((await enclave.client.status()).state, 'exhausted');
  await assert.rejects(session.authorise(ids), { code: 'budget-exhausted' });
  const status = await unlock(bundle, enclave, { budgetTokens: 5 });
  assert.equal(status.licence?.remainingTokens, 5);
});

test('a release that was answered is always charged, killed at any moment', async (t) => {
  const bundle = await lockTiny(t);
  let enclave = await start(t, bundle);
  await unlock(bundle, enclave, { budgetTokens: 100_000 });
  let before = 0;
  for (let round = 0; round < 5; round++) {
    const session = await enclave.client.begin({ topK: 4, temperature: 1 });
    await session.authorise(new Int32Array(1000));
    let answered = 0;
    const calls = Array.from({ length: 500 }, () =>
      session.release(lockedRows(1, 4)).then(
        () => answered++,
        () => 0,
      ),
    );
    await delay(5 + 15 * round);
    process.kill(enclave.process.pid, 'SIGKILL');
    await Promise.all(calls);
    await enclave.process.exited();
    enclave = await start(t, bundle);
    const charged = (await enclave.client.status()).licence?.chargedTokens ?? 0;
    assert.ok(charged >= before + answered, `charged ${charged - before}, answered ${answered}`);
    assert.ok(charged <= before + 500);
    before = charged;
  }
});

test('outstanding requests are answered each to its own caller', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  await unlock(bundle, enclave, { budgetTokens: 1000 });
  const vocabulary = vocabularyPermutation(bundle.keys.lockSeed, 'rotation', tinyConfig.vocabSize);
  const session = await enclave.client.begin({ topK: 8, temperature: 1 });
  const second = await EnclaveClient.connect(enclave.process.socketPath);
  t.after(() => second.close());
  const calls = Array.from({ length: 200 }, (_, i) => session.authorise(Int32Array.of(i % 97)));
  const others = Array.from({ length: 50 }, () => second.status());
  const answers = await Promise.all(calls);
  for (const [i, answer] of answers.entries()) assert.equal(answer[0], vocabulary[i % 97]);
  for (const status of await Promise.all(others)) assert.equal(status.state, 'unlocked');
});

test('a process that dies mid-call is enclave-gone, and so is a socket nobody serves', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  await unlock(bundle, enclave);
  const session = await enclave.client.begin({ topK: 8, temperature: 1 });
  const pending = session.authorise(new Int32Array(500_000));
  process.kill(enclave.process.pid, 'SIGKILL');
  await assert.rejects(pending, { kind: 'protocol', code: 'enclave-gone' });
  await assert.rejects(enclave.client.status(), { code: 'enclave-gone' });
  await enclave.process.exited();
  await assert.rejects(EnclaveClient.connect(enclave.process.socketPath), { code: 'enclave-gone' });
});

test('a second enclave on the same state is refused', async (t) => {
  const bundle = await lockTiny(t);
  await start(t, bundle);
  await assert.rejects(start(t, bundle), { kind: 'environment', code: 'enclave-running' });
});

test('grants are refused by another process, another enclave and a second time', async (t) => {
  const bundle = await lockTiny(t);
  const first = await start(t, bundle);
  const { grant } = await grantLicence({
    keys: bundle.keys,
    evidence: await appraised(bundle, first),
    terms: terms({ budgetTokens: 1 }),
  });
  const other = await start(t, bundle, { stateDir: join(bundle.folder, 'other') });
  await other.client.attest(new Uint8Array(32));
  await assert.rejects(other.client.unlock(grant), { kind: 'verification', code: 'grant-unreadable' });
  const altered = grant.slice();
  altered[altered.length - 1]! ^= 1;
  await assert.rejects(first.client.unlock(altered), { code: 'grant-unreadable' });
  await first.client.unlock(grant);
  await assert.rejects(first.client.unlock(grant), { code: 'licence-replayed' });
  const session = await first.client.begin({ topK: 8, temperature: 1 });
  await session.authorise(ids);
  await session.release(lockedRows(1, 2));
  await assert.rejects(first.client.unlock(grant), { code: 'licence-replayed' });
  await first.process.stop();
  const restarted = await start(t, bundle);
  await restarted.client.attest(new Uint8Array(32));
  await assert.rejects(restarted.client.unlock(grant), { code: 'grant-unreadable' });
});

test('bytes that are no frame are answered malformed and the connection closed; others go on', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  for (const bytes of [
    [255, 255, 255, 255, 4, 0, 0, 0, 0],
    [5, 0, 0, 0, 77, 0, 0, 0, 0],
    [4, 0, 0, 0, 7, 1, 0, 0, 0],
  ]) {
    const answer = await new Promise<Buffer>((resolve) => {
      const chunks: Buffer[] = [];
      const socket = connect(enclave.process.socketPath, () => socket.write(Uint8Array.from(bytes)));
      socket.on('data', (chunk) => chunks.push(chunk)).on('close', () => resolve(Buffer.concat(chunks)));
    });
    assert.equal(answer.length, 9 + 17);
    assert.equal(answer[4], 0xff);
  }
  assert.equal((await enclave.client.status()).state, 'fresh');
});

const sandboxes =
  bubblewrapWorks() || process.env.CI === 'true' ? (['none', 'bubblewrap'] as const) : (['none'] as const);
for (const sandbox of sandboxes) {
  test(`the enclave ends when its parent is killed (sandbox: ${sandbox})`, async (t) => {
    const bundle = await lockTiny(t);
    const launch = new URL('../../src/edge/enclave/launch.js', import.meta.url).href;
    const { bundleDir, folder, keys } = bundle;
    const options = { bundleDir, stateDir: join(folder, 'state'), ownerPublicKey: [...keys.signingKey], sandbox };
    const script = `
      import { launchEnclave } from ${JSON.stringify(launch)};
      const o = ${JSON.stringify(options)};
      const e = await launchEnclave({ ...o, ownerPublicKey: Uint8Array.from(o.ownerPublicKey), onNotice() {} });
      process.stdout.write(JSON.stringify([e.pid, e.socketPath]));
      process.kill(process.pid, 'SIGKILL');`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    const [pid, socketPath] = JSON.parse(child.stdout) as [number, string];
    const answers = (): Promise<boolean> =>
      EnclaveClient.connect(socketPath).then(
        (client) => client.close().then(() => true),
        () => false,
      );
    for (let tries = 0; tries < 100 && (isAlive(pid) || (await answers())); tries++) await delay(20);
    assert.equal(isAlive(pid), false);
    assert.equal(await answers(), false);
  });
}

test('a parent that ends by itself takes the enclave along, without stopping it', async (t) => {
  const bundle = await lockTiny(t);
  const launch = new URL('../../src/edge/enclave/launch.js', import.meta.url).href;
  const script = `
    import { launchEnclave } from ${JSON.stringify(launch)};
    const e = await launchEnclave({ bundleDir: ${JSON.stringify(bundle.bundleDir)}, stateDir: ${JSON.stringify(join(bundle.folder, 'state'))},
      ownerPublicKey: Uint8Array.from(${JSON.stringify([...bundle.keys.signingKey])}), sandbox: 'none', onNotice() {} });
    process.stdout.write(String(e.pid));`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  assert.equal(child.status, 0, child.stderr);
  const pid = Number(child.stdout);
  for (let tries = 0; tries < 100 && isAlive(pid); tries++) await delay(20);
  assert.equal(isAlive(pid), false);
});
