// The device's side of the licence service's HTTP interface: the whole conversation, what is retried, and everything that may go wrong.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { parseServiceAddress } from '../../src/edge/licence/address.js';
import { EgressLedger } from '../../src/edge/licence/ledger.js';
import { obtainGrant } from '../../src/edge/licence/obtain-grant.js';
import { grantLicence } from '../../src/owner/grant.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { EnvironmentError } from '../../src/trusted/wire/errors.js';
import { appraised, lockTiny, start, terms } from '../enclave/licensed-enclave.js';
import { failsWith } from '../model/fixtures.js';
import { clientOf, type Exchange, type FakeService, type Reply, startFakeService } from './fake-service.js';

async function open(t: Parameters<typeof lockTiny>[0], changes: Parameters<typeof terms>[0] = {}) {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  const service = await startFakeService(t, bundle, () => enclave.process.simulatedRoot, changes);
  const { ledger } = enclave.client;
  const obtain = (activationCode = service.code, client = clientOf(service.url, { ledger })) =>
    obtainGrant({ client: enclave.client, service: client, activationCode });
  return { bundle, enclave, service, ledger, obtain };
}

const rows = (count: number) => ({
  rows: count,
  k: 1,
  lockedIds: new Int32Array(count),
  logprobs: new Float32Array(count),
});

test('challenge, evidence, grant, leases, receipt: the enclave is unlocked, and the ledger has every body', async (t) => {
  const { bundle, enclave, service, ledger, obtain } = await open(t, { budgetTokens: 20, leaseTokens: 8 });
  const { client } = enclave;
  const bodies: string[] = [];
  service.fault = async ({ body, honest }) => {
    const reply = await honest();
    bodies.push(JSON.stringify(body), JSON.stringify(reply.body));
    return reply;
  };
  assert.equal((await obtain()).status.state, 'unlocked');
  const relay = clientOf(service.url, { ledger });
  client.fetchLease = (request) => relay.lease(request);
  const session = await client.begin({ topK: 8, temperature: 1 });
  await session.authorise(new Int32Array(40).fill(1));
  await session.release(rows(3));
  await session.release(rows(6));
  assert.deepEqual(service.asked.slice(2), ['/v1/leases', '/v1/leases'], 'one lease is enough for 8 rows');
  await session.release(rows(11));
  await assert.rejects(session.release(rows(1)), { code: 'budget-exhausted' });
  const receipt = await client.destroy();
  assert.deepEqual(
    (await relay.receipt(receipt)).map(({ state }) => state),
    ['closed'],
  );
  const shown = ledger.entries.map(({ direction, purpose, afterUnlock }) => `${direction} ${purpose} ${afterUnlock}`);
  const lease = ['out lease-request true', 'in lease true'];
  assert.deepEqual(shown, [
    ...['out challenge false', 'in challenge false', 'out evidence false', 'in grant false'],
    ...[...lease, ...lease, ...lease, 'out receipt true', 'in receipt true'],
  ]);
  assert.deepEqual(
    ledger.entries.map(({ bytes }) => bytes),
    bodies.map((body) => Buffer.byteLength(body)),
    'bytes on the wire, body by body',
  );
  assert.ok(ledger.entries.every(({ host }) => host === new URL(service.url).host));
  assert.equal(bundle.keys.bundleKey.length, 32);
});

test('network errors and 5xx are retried with the same body, refusals are not; what stays broken is named', async (t) => {
  const { service, ledger, obtain } = await open(t);
  const grants: string[] = [];
  let failures = 0;
  service.fault = async ({ path, body, honest, response }: Exchange) => {
    if (path !== '/v1/grants') return honest();
    grants.push(JSON.stringify(body));
    failures += 1;
    if (failures === 1) {
      // The grant is made, and its reply lost: the retry must find it again.
      await honest();
      response.destroy();
      return null;
    }
    return failures === 2 ? { status: 503, body: { error: { code: 'database-unavailable', message: 'x' } } } : honest();
  };
  assert.equal((await obtain()).status.state, 'unlocked');
  assert.equal(new Set(grants).size, 1);
  assert.equal(grants.length, 3);
  const evidence = ledger.entries.filter(({ purpose }) => purpose === 'evidence');
  assert.equal(evidence.length, 3, 'every attempt is in the ledger');

  service.fault = async () => ({ status: 500, body: { error: { code: 'internal', message: 'the service failed' } } });
  const before = service.asked.length;
  await assert.rejects(obtain(), { kind: 'protocol', code: 'internal' });
  assert.equal(service.asked.length - before, 3);
  service.fault = null;
  const asked = service.asked.length;
  await assert.rejects(obtain('WRONG'), { kind: 'policy', code: 'activation-code' });
  assert.equal(service.asked.length - asked, 2, 'a refusal is final');

  const unreachable = clientOf('http://127.0.0.1:9');
  await assert.rejects(unreachable.challenge('0'.repeat(64)), failsWith('service-unreachable', '127.0.0.1:9'));
});

/** A fault for every request, and the error it must end in. */
async function endsIn(
  service: FakeService,
  code: string,
  fault: FakeService['fault'],
  timeoutMs = 10_000,
): Promise<void> {
  service.fault = fault;
  const relay = clientOf(service.url, { timeoutMs });
  const started = performance.now();
  await assert.rejects(relay.challenge('0'.repeat(64)), failsWith(code, new URL(service.url).host));
  assert.ok(performance.now() - started < 30_000);
}

test('hanging, slow, oversized, cut, redirected and foreign replies each end in their own error', async (t) => {
  const bundle = await lockTiny(t);
  const service = await startFakeService(t, bundle, () => new Uint8Array(32));
  const says = (status: number, body: unknown) => async (): Promise<Reply> => ({ status, body });
  await endsIn(service, 'service-timeout', async () => null, 100);
  await endsIn(
    service,
    'service-timeout',
    async ({ response }) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(' '), 20);
      response.on('close', () => clearInterval(timer));
      return null;
    },
    200,
  );
  await endsIn(service, 'service-reply-size', says(200, { nonce: 'x'.repeat(300_000) }));
  await endsIn(service, 'service-unreachable', async ({ response }) => {
    response.writeHead(200, { 'content-length': 100 }).write('{');
    await delay(20);
    response.destroy();
    return null;
  });
  let followed = false;
  await endsIn(service, 'service-redirect', async ({ path, response }) => {
    followed ||= path === '/elsewhere';
    response.writeHead(307, { location: `${service.url}/elsewhere` }).end();
    return null;
  });
  assert.equal(followed, false);
  await endsIn(service, 'service-reply', says(200, '<html>'));
  await endsIn(service, 'service-reply', says(200, { nonce: 'short' }));
  await endsIn(service, 'service-reply', says(404, 'not here'));
});

test('what a service says reaches the terminal as plain text only', async (t) => {
  const bundle = await lockTiny(t);
  const service = await startFakeService(t, bundle, () => new Uint8Array(32));
  const message = `\u001b[2Jall is well\r\n\u202e${'x'.repeat(1000)}`;
  service.fault = async () => ({ status: 403, body: { error: { code: 'licence-revoked', message } } });
  await assert.rejects(clientOf(service.url).challenge('0'.repeat(64)), (error: Error) => {
    assert.match(error.message, /^the licence service refused: \[2Jall is well x+…$/);
    return error.message.length < 400;
  });
  service.fault = async () => ({ status: 403, body: { error: { code: 'Bad Code\n', message: 'x' } } });
  await assert.rejects(clientOf(service.url).challenge('0'.repeat(64)), failsWith('service-reply'));
});

test('plain HTTP is for this machine, unless it is asked for; an address is http or https and nothing else', () => {
  const parse = (url: string, insecureHttp = false) => parseServiceAddress(url, { ca: null, insecureHttp });
  assert.equal(parse('https://licence.example').host, 'licence.example:443');
  assert.equal(parse('https://licence.example:8443/a').base, 'https://licence.example:8443/a/');
  for (const local of ['http://localhost:1', 'http://127.0.0.1:1', 'http://[::1]:1']) assert.ok(parse(local));
  for (const far of [
    'http://licence.example',
    'http://10.0.0.1',
    'http://localhost.example',
    'http://127.0.0.1.example',
  ])
    assert.throws(() => parse(far), failsWith('service-insecure', 'https'));
  assert.equal(parse('http://10.0.0.1', true).host, '10.0.0.1:80');
  for (const none of ['licence.example', 'ftp://x', 'https://user:pass@x', 'https://x?y', 'file:///etc/passwd', ''])
    assert.throws(() => parse(none), failsWith('setting-value', 'licence_service'));
});

test('a message that cannot be recorded is not sent', async (t) => {
  const bundle = await lockTiny(t);
  const service = await startFakeService(t, bundle, () => new Uint8Array(32));
  // A file where the ledger's folder should be.
  const ledger = new EgressLedger(join(bundle.bundleDir, 'manifest.json', 'x.egress.jsonl'));
  await assert.rejects(clientOf(service.url, { ledger }).challenge(bundle.bundleId), EnvironmentError);
  assert.deepEqual(service.asked, []);
});

test('a grant altered on the way, or for another enclave, or replayed after a restart, does not unlock', async (t) => {
  const { bundle, enclave, service, obtain } = await open(t);
  let honest = Buffer.alloc(0);
  service.fault = async ({ path, honest: answer }) => {
    const reply = await answer();
    if (path !== '/v1/grants') return reply;
    const body = reply.body as { grant: string; licence: object };
    honest = Buffer.from(body.grant, 'base64url');
    const altered = Buffer.from(honest);
    altered.writeUInt8(altered.readUInt8(altered.length - 1) ^ 1, altered.length - 1);
    return { status: 200, body: { ...body, grant: altered.toString('base64url') } };
  };
  await assert.rejects(obtain(), { kind: 'verification', code: 'grant-unreadable' });
  assert.equal((await enclave.client.status()).state, 'attested');

  // Another enclave of the same owner and bundle: the licence in its grant names another key.
  const other = await start(t, bundle, { stateDir: join(bundle.folder, 'other') });
  await assert.rejects(other.client.unlock(honest), { code: 'not-attested' });
  await appraised(bundle, other);
  await assert.rejects(other.client.unlock(honest), { code: 'grant-unreadable' }, "sealed to the other process's key");
  const mine = await grantLicence({ keys: bundle.keys, evidence: await appraised(bundle, other), terms: terms() });
  await assert.rejects(enclave.client.unlock(mine.grant), { code: 'grant-unreadable' });

  // The same enclave after a restart: a new process has a new encryption key.
  await enclave.client.close();
  await enclave.process.stop();
  const again = await start(t, bundle);
  await appraised(bundle, again);
  await assert.rejects(again.client.unlock(honest), { code: 'grant-unreadable' });
  assert.equal((await again.client.status()).state, 'attested');
});

test('a licence signed by somebody else, or a key swapped in the evidence, is refused', async (t) => {
  const { bundle, enclave, service, obtain } = await open(t);
  const mallory = await lockTiny(t);
  // In the middle, with keys of his own: he can seal to the enclave, whose encryption key is public, but not sign as the owner.
  service.fault = async ({ path, honest }) => {
    if (path !== '/v1/grants') return honest();
    const evidence = await appraised(bundle, enclave);
    const claims = { ...evidence.claims, ownerKey: mallory.keys.signingKey };
    const { grant, licence } = await grantLicence({
      keys: mallory.keys,
      evidence: { ...evidence, claims },
      terms: terms(),
    });
    return { status: 200, body: { grant: encodeBase64url(grant), licence } };
  };
  await assert.rejects(obtain(), { kind: 'verification', code: 'licence-signature' });
  assert.equal((await enclave.client.status()).licence, null);

  service.fault = async ({ path, body, honest }) => {
    if (path === '/v1/grants') {
      const evidence = Buffer.from(body.evidence, 'base64url');
      // The encryption key is the second field of the claims, behind `simulated`.
      const at = evidence.indexOf('simulated') + 'simulated'.length + 4;
      evidence.writeUInt8(evidence.readUInt8(at) ^ 1, at);
      body.evidence = evidence.toString('base64url');
    }
    return honest();
  };
  await assert.rejects(obtain(), { kind: 'verification', code: 'evidence-rejected' });
  service.fault = null;
  assert.equal((await obtain()).status.state, 'unlocked', 'control');
});

test('other terms beside the signed ones are pointed out and change nothing', async (t) => {
  const { enclave, service, ledger } = await open(t);
  service.fault = async ({ path, honest }) => {
    const reply = await honest();
    if (path !== '/v1/grants') return reply;
    const body = reply.body as { grant: string; licence: object };
    return { status: 200, body: { ...body, licence: { ...body.licence, budgetTokens: 1e9 } } };
  };
  const notices: string[] = [];
  const { status } = await obtainGrant({
    client: enclave.client,
    service: clientOf(service.url, { ledger }),
    activationCode: service.code,
    onNotice: (line) => notices.push(line),
  });
  assert.equal(status.licence?.budgetTokens, 100);
  assert.match(notices.join(), /other terms than those it signed \(budgetTokens\)/);
});

test('leases from the wrong signer, for another request, or after the licence was closed, release nothing', async (t) => {
  const { bundle, enclave, service, ledger, obtain } = await open(t, { leaseTokens: 5 });
  await obtain();
  const { client } = enclave;
  const relay = clientOf(service.url, { ledger });
  client.fetchLease = (request) => relay.lease(request);
  const session = await client.begin({ topK: 8, temperature: 1 });
  await session.authorise(new Int32Array(40).fill(1));
  let old = '';
  service.fault = async ({ honest }) => {
    const reply = await honest();
    old = (reply.body as { lease: string }).lease;
    return { status: 200, body: { lease: `${old.slice(0, -4)}AAAA` } };
  };
  await assert.rejects(session.release(rows(1)), { kind: 'verification', code: 'lease-refused' });
  service.fault = null;
  await session.release(rows(5));
  service.fault = async () => ({ status: 200, body: { lease: old } });
  await assert.rejects(session.release(rows(1)), { code: 'lease-refused' }, 'a lease counts once');
  service.fault = null;
  const { licence } = await client.status();
  service.closed.add(licence!.licenceId);
  await assert.rejects(session.release(rows(1)), { kind: 'policy', code: 'licence-closed' });
  assert.equal((await client.status()).licence?.chargedTokens, 5);
  assert.equal(bundle.bundleId.length, 64);
});
