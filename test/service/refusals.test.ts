// What the licence service gives and refuses: every code, idempotence, leases, receipts, revocation, clocks.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createDevice, createSimulatedRoot, simulatedEvidence } from '../../bench/workload/device.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { revokeLicence, showLicence } from '../../src/owner/service/licences.js';
import { linkAudit, verifyAudit } from '../../src/owner/store/audit.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { verifyLease } from '../../src/trusted/wire/lease.js';
import { verifyLicence } from '../../src/trusted/wire/licence.js';
import { onBoth } from './databases.js';
import { BUNDLE, granted, inProcess, nowSeconds, OTHER_BUNDLE, refused } from './served.js';

onBoth(
  'a grant opens on its device only, holds the terms, and is answered again unchanged',
  async (_t, { database }) => {
    const { client, device, issue, keys } = inProcess(database);
    const { licence: issued, activationCode } = await issue({ leaseTokens: 100, topK: 5 });
    const alice = await device();
    const first = await granted(client, alice, activationCode);
    const { bundleKey, licenceJws } = await alice.open(first.grant);
    assert.deepEqual(bundleKey, keys.bundleKey);
    const signed = verifyLicence(licenceJws, keys.signingKey);
    assert.deepEqual(signed, first.licence);
    assert.equal(signed.licenceId, issued.licenceId);
    assert.equal(signed.enclaveKeyId, alice.enclaveKeyId);
    assert.deepEqual([signed.budgetTokens, signed.leaseTokens, signed.topK], [1000, 100, 5]);
    await assert.rejects((await device()).open(first.grant));
    const again = await client.grant(first.nonce, first.evidence, activationCode.toUpperCase().replaceAll('-', ' '));
    assert.equal(again.body.grant, encodeBase64url(first.grant));
    assert.deepEqual(again.body.licence, first.licence);
    const history = await showLicence(database, issued.licenceId);
    assert.equal(history.licence.devices, 1);
    assert.deepEqual(
      history.audit.map(({ event }) => event),
      ['licence-issued', 'granted'],
    );
  },
);

onBoth('challenges: unknown bundle, unknown, expired and used nonces', async (_t, { database }) => {
  const { client, clock, device, issue } = inProcess(database);
  refused(await client.post('/v1/challenges', { bundleId: BUNDLE }), 404, 'bundle-unknown');
  const { activationCode } = await issue();
  const alice = await device();
  const stranger = new Uint8Array(randomBytes(32));
  refused(await client.grant(stranger, alice.evidence(stranger), activationCode), 404, 'challenge-unknown');
  const slow = await client.challenge();
  clock.skew = 301;
  refused(await client.grant(slow, alice.evidence(slow), activationCode), 410, 'challenge-expired');
  clock.skew = 0;
  const { nonce, evidence } = await granted(client, alice, activationCode);
  const mallory = await device();
  refused(await client.grant(nonce, mallory.evidence(nonce), activationCode), 409, 'challenge-used');
  const other = await issue();
  refused(await client.grant(nonce, evidence, other.activationCode), 409, 'challenge-used');
  clock.skew = 301;
  assert.equal((await client.grant(nonce, evidence, activationCode)).status, 200, 'a retry may come late');
});

onBoth(
  'evidence that does not hold is refused with its reason, costs nothing, and is written down',
  async (_t, { database }) => {
    const { client, device, issue, root, keys } = inProcess(database);
    const { licence, activationCode } = await issue();
    const alice = await device();
    const nonce = await client.challenge();
    const ask = (evidence: Uint8Array, code = activationCode) => client.grant(nonce, evidence, code);
    const forged = (changes: object) => simulatedEvidence(root, alice.claims, nonce, { ...alice.claims, ...changes });
    const mallory = await device();
    const elsewhere = await createDevice({ root, bundleId: OTHER_BUNDLE, ownerKey: keys.signingKey });
    const disloyal = await device({ ownerKey: createOwnerKeys().signingKey });
    const rootless = await createDevice({ root: createSimulatedRoot(), bundleId: BUNDLE, ownerKey: keys.signingKey });
    const cases: [string, Uint8Array][] = [
      ['report-data', alice.evidence(new Uint8Array(32))],
      ['report-data', forged({ signingKey: mallory.claims.signingKey })],
      ['report-data', forged({ encryptionKey: mallory.claims.encryptionKey })],
      ['report-data', forged({ bundleId: OTHER_BUNDLE })],
      ['evidence-bundle', elsewhere.evidence(nonce)],
      ['evidence-owner', disloyal.evidence(nonce)],
      ['signature', rootless.evidence(nonce)],
      ['dcap-quote', forged({ kind: 'sgx' })],
    ];
    for (const [reason, evidence] of cases) refused(await ask(evidence), 403, 'evidence-rejected', reason);
    assert.equal((await ask(new Uint8Array(10))).body.error.code, 'evidence-rejected');
    refused(await ask(alice.evidence(nonce), '0000-0000'), 403, 'activation-code');
    const { audit, licence: after } = await showLicence(database, licence.licenceId);
    assert.equal(audit.filter(({ event }) => event === 'grant-refused').length, cases.length + 1);
    assert.equal(after.devices, 0);
    assert.equal((await ask(alice.evidence(nonce))).status, 200, 'the challenge is still good for honest evidence');
  },
);

onBoth(
  'devices and renewals: one by default, more only with leases, one licence at most once',
  async (_t, { database }) => {
    const { client, device, issue, clock } = inProcess(database);
    const one = await issue();
    const [alice, bob, carol] = [await device(), await device(), await device()];
    const ask = async (who: typeof alice, code: string) => {
      const nonce = await client.challenge();
      return client.grant(nonce, who.evidence(nonce), code);
    };
    await granted(client, alice, one.activationCode);
    refused(await ask(bob, one.activationCode), 403, 'devices-exhausted');
    refused(await ask(alice, one.activationCode), 409, 'licence-used');
    const renewal = await issue();
    assert.equal((await granted(client, alice, renewal.activationCode)).licence.licenceId, renewal.licence.licenceId);
    await assert.rejects(issue({ maxDevices: 2 }), { code: 'licence-shared' });
    const two = await issue({ maxDevices: 2, leaseTokens: 10 });
    await granted(client, alice, two.activationCode);
    await granted(client, bob, two.activationCode);
    assert.equal(
      (await ask(alice, two.activationCode)).status,
      200,
      'the service counts its budget, so it may have it again',
    );
    refused(await ask(carol, two.activationCode), 403, 'devices-exhausted');
    const short = await issue({ expires: nowSeconds() + 5 });
    clock.skew = 6;
    refused(await ask(carol, short.activationCode), 403, 'licence-expired');
    await assert.rejects(issue({ topK: 0 }), { kind: 'malformed' });
  },
);

onBoth('leases: signed by the device, once per nonce, never beyond the budget', async (_t, { database }) => {
  const { client, device, issue, keys, clock } = inProcess(database);
  const { licence, activationCode } = await issue({ budgetTokens: 250, leaseTokens: 100, maxDevices: 2 });
  const { licenceId } = licence;
  const [alice, bob, carol] = [await device(), await device(), await device()];
  await granted(client, alice, activationCode);
  await granted(client, bob, activationCode);
  const lease = (request: string) => client.post('/v1/leases', { request });
  const nonce = encodeBase64url(randomBytes(32));
  const request = alice.leaseRequest(licenceId, { nonce, chargedTokens: 0 });
  const first = await lease(request);
  const signed = verifyLease(first.body.lease, keys.signingKey);
  assert.deepEqual(signed, { licenceId, enclaveKeyId: alice.enclaveKeyId, nonce, tokens: 100 });
  assert.deepEqual(await lease(request), first, 'a retry gets the same lease');
  refused(await lease(bob.leaseRequest(licenceId, { nonce })), 409, 'lease-nonce-used');
  refused(await lease(carol.leaseRequest(licenceId)), 404, 'device-unknown');
  const [header, payload] = request.split('.');
  const foreign = bob.leaseRequest(licenceId).split('.')[2];
  refused(await lease(`${header}.${payload}.${foreign}`), 403, 'signature');
  refused(await lease(first.body.lease), 400, 'malformed');
  refused(await lease(alice.receipt([])), 400, 'malformed');
  const unlimited = await issue();
  await granted(client, alice, unlimited.activationCode);
  refused(await lease(alice.leaseRequest(unlimited.licence.licenceId)), 409, 'leases-none');
  refused(await lease(bob.leaseRequest(unlimited.licence.licenceId)), 404, 'device-unknown');
  const amount = async (who: typeof alice) => {
    return verifyLease((await lease(who.leaseRequest(licenceId))).body.lease, keys.signingKey).tokens;
  };
  assert.equal(await amount(bob), 100);
  assert.equal(await amount(alice), 50, 'what is left');
  refused(await lease(alice.leaseRequest(licenceId)), 403, 'budget-exhausted');
  assert.equal((await showLicence(database, licenceId)).licence.leasedTokens, 250);
  clock.skew = 90_000;
  refused(await lease(alice.leaseRequest(licenceId)), 403, 'licence-expired');
});

onBoth('revoked: no grant, no repeated grant, no lease; receipts still count', async (_t, { database }) => {
  const { client, device, issue } = inProcess(database);
  const { licence, activationCode } = await issue({ leaseTokens: 10, maxDevices: 2 });
  const [alice, bob] = [await device(), await device()];
  const { nonce, evidence } = await granted(client, alice, activationCode);
  const { licenceId } = licence;
  assert.equal((await revokeLicence(database, licenceId, 'lost laptop', nowSeconds())).state, 'revoked');
  await revokeLicence(database, licenceId, 'again', nowSeconds());
  const fresh = await client.challenge();
  refused(await client.grant(fresh, bob.evidence(fresh), activationCode), 403, 'licence-revoked');
  refused(await client.grant(nonce, evidence, activationCode), 403, 'licence-revoked');
  refused(await client.post('/v1/leases', { request: alice.leaseRequest(licenceId) }), 403, 'licence-revoked');
  const receipt = alice.receipt([{ licenceId, budgetTokens: 1000, chargedTokens: 7 }]);
  assert.deepEqual((await client.post('/v1/receipts', { receipt })).body, {
    licences: [{ licenceId, state: 'revoked' }],
  });
  const { audit } = await showLicence(database, licenceId);
  assert.equal(audit.filter(({ event }) => event === 'licence-revoked').length, 1);
  await assert.rejects(revokeLicence(database, 'nobody', '', 0), { code: 'licence-unknown' });
});

onBoth(
  'receipts: verified with the key of the grant, kept as they are, close what they name',
  async (_t, { database }) => {
    const { client, device, issue } = inProcess(database);
    const single = await issue();
    const shared = await issue({ maxDevices: 2, leaseTokens: 10 });
    const [alice, bob, carol] = [await device(), await device(), await device()];
    const asked = await granted(client, alice, single.activationCode);
    await granted(client, alice, shared.activationCode);
    await granted(client, bob, shared.activationCode);
    const entry = (licenceId: string, chargedTokens = 0) => ({ licenceId, budgetTokens: 1000, chargedTokens });
    const [one, two] = [single.licence.licenceId, shared.licence.licenceId];
    const receipt = alice.receipt([entry(one, 400), entry(two), entry('elsewhere')]);
    const send = (text: string) => client.post('/v1/receipts', { receipt: text });
    const states = [
      { licenceId: one, state: 'closed' },
      { licenceId: two, state: 'open' },
      { licenceId: 'elsewhere', state: 'unknown' },
    ];
    assert.deepEqual((await send(receipt)).body, { licences: states });
    assert.deepEqual((await send(receipt)).body, { licences: states }, 'sent twice it answers the same');
    refused(await send(carol.receipt([entry(one)])), 404, 'device-unknown');
    const [header, payload] = receipt.split('.');
    refused(await send(`${header}.${payload}.${bob.receipt([]).split('.')[2]}`), 403, 'signature');
    refused(await client.post('/v1/leases', { request: alice.leaseRequest(two) }), 403, 'licence-closed');
    assert.equal((await client.post('/v1/leases', { request: bob.leaseRequest(two) })).status, 200);
    refused(await client.grant(asked.nonce, asked.evidence, single.activationCode), 403, 'licence-closed');
    assert.equal((await send(bob.receipt([entry(two)]))).body.licences[0].state, 'closed');
    const history = await showLicence(database, one);
    assert.deepEqual(
      history.receipts.map(({ jws }) => jws),
      [receipt],
    );
    assert.equal(history.seats[0]?.chargedTokens, 400);
    assert.equal(history.audit.filter(({ event }) => event === 'receipt').length, 1);
  },
);

onBoth('the audit log is chained, append-only, and shows a tampered entry', async (_t, { database }) => {
  const { issue } = inProcess(database);
  for (let i = 0; i < 5; i++) await issue();
  const head = await linkAudit(database);
  assert.equal(head.position, 5);
  assert.deepEqual(await verifyAudit(database), head);
  await assert.rejects(database.query("UPDATE audit SET details = '{}' WHERE position = 3"), /append-only/);
  await assert.rejects(database.query('DELETE FROM audit WHERE position = 3'), /append-only/);
  await assert.rejects(database.query('TRUNCATE audit'), /append-only/);
  await assert.rejects(database.query('UPDATE licences SET devices = 2'), { constraint: 'licence_devices' });
  await database.query('ALTER TABLE audit DISABLE TRIGGER audit_append_only');
  await database.query("UPDATE audit SET details = '{}' WHERE position = 3");
  await assert.rejects(verifyAudit(database), { code: 'audit-chain', details: { position: 3 } });
});
