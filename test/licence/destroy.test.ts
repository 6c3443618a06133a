// Destruction through the verbs: what is erased, what the service is told, that nothing unlocks the teacher afterwards, and what a
// backup of the state folder still can do, which is said rather than hidden.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeEvidence } from '../../src/attest/evidence/decode-evidence.js';
import { EnclaveClient } from '../../src/edge/enclave/client.js';
import { launchEnclave } from '../../src/edge/enclave/launch.js';
import { uniformPlan } from '../../src/model/spans.js';
import { decodeBase64url, encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { cli, failure, json } from '../cli/command-line.js';
import { tinyConfig } from '../owner/tiny-model.js';
import { type Device, openDevice } from './device.js';
import { clientOf } from './fake-service.js';

const inside = { plan: uniformPlan(tinyConfig.numHiddenLayers, 'enclave') };

async function destroyHere({ bundle, where }: Device, ...more: readonly string[]) {
  const receipt = join(bundle.folder, 'receipt');
  return { receipt, result: await json('destroy', ...where, '--receipt', receipt, '--yes', ...more) };
}

test('unlocked by activation code; destroyed: receipt delivered, state and sealed part erased, nothing left that unlocks', async (t) => {
  const device = await openDevice(t, inside);
  const { bundle, service, stateDir, where } = device;
  assert.equal((await failure('enclave', ...where)).code, 'owner-key-missing');
  const unlocked = await device.activate();
  assert.deepEqual([unlocked.state, unlocked.licence.remainingTokens], ['unlocked', 100]);
  assert.ok(existsSync(join(stateDir, 'sealed-state.bin')));
  const copy = join(bundle.folder, 'copy.lock');
  await cp(bundle.bundleDir, copy, { recursive: true });

  const { receipt, result } = await destroyHere(device);
  const { licenceId } = unlocked.licence;
  assert.deepEqual(result.closed, [{ licenceId, state: 'closed' }]);
  assert.ok(service.closed.has(licenceId));
  assert.deepEqual(await readdir(stateDir), ['owner.pub'], 'neither sealed state nor platform keys');
  assert.deepEqual(
    (await readdir(bundle.bundleDir)).filter((name) => name.endsWith('.sealed')),
    [],
  );
  assert.deepEqual(await readdir(join(bundle.bundleDir, 'segments')), []);
  assert.ok(existsSync(join(bundle.bundleDir, 'manifest.json')));
  assert.equal(result.bundleDeleted, false);

  assert.equal((await json('enclave', ...where)).state, 'destroyed');
  assert.equal((await failure('enclave', ...where, '--activation_code', service.code)).code, 'destroyed');
  // A copy of the bundle on another device: no state is there, and the service gives no second key for a closed licence.
  const owner = join(bundle.folder, 'owner.json');
  const elsewhere = ['--bundle', copy, '--enclave_state_dir', join(bundle.folder, 'elsewhere'), '--owner_key', owner];
  const attempt = ['--licence_service', service.url, '--activation_code', service.code];
  assert.equal((await failure('enclave', ...elsewhere, ...attempt)).code, 'licence-closed');
  assert.equal((await json('enclave', ...elsewhere)).licence, null);

  const [ledger] = await json('ledger', 'show', ...where);
  assert.deepEqual(
    ledger.entries.map((entry: { direction: string; purpose: string }) => `${entry.direction} ${entry.purpose}`),
    ['out challenge', 'in challenge', 'out evidence', 'in grant', 'out receipt', 'in receipt'],
  );
  assert.equal(ledger.afterUnlock.bytesOut, ledger.entries[4].bytes, 'after unlock the receipt and nothing else');

  const again = await destroyHere(device);
  assert.deepEqual(again.result.receipt, result.receipt);
  assert.equal(await readFile(again.receipt, 'utf8'), await readFile(receipt, 'utf8'));
});

test('a service that cannot be reached does not stop a destruction; the receipt is sent later', async (t) => {
  const device = await openDevice(t);
  const { service, where, stateDir, state } = device;
  const { licence } = await device.activate();
  service.fault = async () => ({ status: 403, body: { error: { code: 'signature', message: 'no' } } });
  const receipt = join(device.bundle.folder, 'receipt');
  const { out, code } = await cli('destroy', ...where, '--receipt', receipt, '--yes');
  assert.equal(code, 0);
  assert.match(out, /was not delivered[\s\S]*distillock receipt send/);
  assert.deepEqual(await readdir(stateDir), ['owner.pub']);
  assert.ok(!service.closed.has(licence.licenceId));
  service.fault = null;
  const sent = await json('receipt', 'send', receipt, '--enclave_state_dir', state);
  assert.deepEqual(sent.closed, [{ licenceId: licence.licenceId, state: 'closed' }]);

  const offline = await openDevice(t);
  await offline.activate();
  const asked = offline.service.asked.length;
  assert.equal((await destroyHere(offline, '--offline')).result.closed, null);
  assert.equal(offline.service.asked.length, asked);
});

test('killed between any two steps, destroy goes on and gives the same receipt', async (t) => {
  const device = await openDevice(t, inside);
  await device.activate();
  const { stateDir, bundle } = device;
  // The enclave has destroyed itself and its caller died before anything else happened.
  const enclave = await launchEnclave({
    bundleDir: bundle.bundleDir,
    stateDir,
    ownerPublicKey: bundle.keys.signingKey,
    onNotice: () => undefined,
  });
  const client = await EnclaveClient.connect(enclave.socketPath);
  const jws = Buffer.from(await client.destroy()).toString();
  await client.close();
  await enclave.stop();
  const first = await destroyHere(device);
  assert.equal((await readFile(first.receipt, 'utf8')).trim(), jws);
  // Died again, after some of the files were gone.
  await writeFile(join(stateDir, 'sealed-state.bin'), 'left over');
  await writeFile(join(bundle.bundleDir, 'enclave.sealed'), 'left over');
  await rm(join(bundle.bundleDir, 'segments'), { recursive: true });
  assert.deepEqual((await destroyHere(device)).result.receipt, first.result.receipt);
  assert.deepEqual(await readdir(stateDir), ['owner.pub']);
  assert.ok(!existsSync(join(bundle.bundleDir, 'enclave.sealed')));
});

for (const leaseTokens of [0, 10]) {
  test(`a backup of state and bundle, put back after destruction: ${leaseTokens === 0 ? 'without leases it still releases (a limitation)' : 'with leases it releases nothing'}`, async (t) => {
    const device = await openDevice(t, {}, { leaseTokens });
    const { bundle, service, stateDir } = device;
    await device.activate();
    const backup = join(bundle.folder, 'backup');
    await cp(stateDir, join(backup, 'state'), { recursive: true, filter: (path) => !path.endsWith('.sock') });
    await cp(bundle.bundleDir, join(backup, 'bundle'), { recursive: true });
    await destroyHere(device);

    // The verbs still refuse: the receipt lies beside the folder that was put back. So the attacker starts the enclave by hand.
    await cp(join(backup, 'state'), stateDir, { recursive: true });
    await cp(join(backup, 'bundle'), bundle.bundleDir, { recursive: true });
    assert.equal((await json('enclave', ...device.where)).state, 'destroyed');
    const enclave = await launchEnclave({
      bundleDir: bundle.bundleDir,
      stateDir,
      ownerPublicKey: bundle.keys.signingKey,
      onNotice: () => undefined,
    });
    t.after(() => enclave.stop());
    const client = await EnclaveClient.connect(enclave.socketPath);
    t.after(() => client.close());
    assert.equal(
      (await client.status()).state,
      'unlocked',
      'the old sealed file opens: nothing on this platform counts up',
    );
    client.fetchLease = (request) => clientOf(service.url).lease(request);
    const session = await client.begin({ topK: 4, temperature: 1 });
    await session.authorise(Int32Array.of(1));
    const row = { rows: 1, k: 1, lockedIds: Int32Array.of(3), logprobs: Float32Array.of(-1) };
    if (leaseTokens === 0) assert.equal((await session.release(row)).tokenIds.length, 1);
    else await assert.rejects(session.release(row), { kind: 'policy', code: 'licence-closed' });
  });
}

test('receipt verify: by key and by evidence; another key, an altered receipt and another file are refused', async (t) => {
  const device = await openDevice(t);
  const { bundle, service, where } = device;
  let evidence: Uint8Array = new Uint8Array();
  service.fault = async ({ path, body, honest }) => {
    if (path === '/v1/grants') evidence = decodeBase64url(body.evidence);
    return honest();
  };
  await device.activate();
  const { receipt, result } = await destroyHere(device, '--offline');
  const jws = (await readFile(receipt, 'utf8')).trim();
  const verify = (file: string, key: string) => ['receipt', 'verify', file, '--enclave_key', key];
  const right = encodeBase64url(decodeEvidence(evidence).claims.signingKey);
  const verified = await json(...verify(receipt, right));
  assert.deepEqual([verified.signature, verified.receipt], ['verified', result.receipt]);
  assert.match((await cli(...verify(receipt, right))).out, /SIMULATED[\s\S]*Signature verified with the key given/);
  const wrong = encodeBase64url(bundle.keys.signingKey);
  assert.equal((await failure(...verify(receipt, wrong))).code, 'signature');
  const altered = join(bundle.folder, 'altered');
  const [header, payload, signature] = jws.split('.');
  const earlier = { ...JSON.parse(Buffer.from(payload!, 'base64url').toString()), time: 1 };
  await writeFile(altered, `${header}.${Buffer.from(JSON.stringify(earlier)).toString('base64url')}.${signature}`);
  assert.equal((await failure(...verify(altered, right))).code, 'signature');
  assert.equal((await failure(...verify(join(bundle.bundleDir, 'manifest.json'), wrong))).code, 'receipt-file');
  assert.equal((await failure('receipt', 'verify', receipt)).exitCode, 2);
  assert.equal((await failure(...verify(receipt, 'short'))).exitCode, 2);
  assert.equal((await failure('destroy', ...where, '--receipt', receipt)).exitCode, 2, 'not without --yes');
});
