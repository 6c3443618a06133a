// Leases: what may be released without one, leases that must not count, and what putting an old sealed file back brings.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyLeaseRequest } from '../../src/attest/lease-request.js';
import { decodeError, decodeStatus } from '../../src/edge/enclave/decode-replies.js';
import { encodeRelease } from '../../src/edge/enclave/encode-requests.js';
import { createOwnerKeys, type OwnerKeys } from '../../src/owner/owner-keys.js';
import { signWithOwnerKey } from '../../src/owner/sign.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import type { Lease, LeaseRequest } from '../../src/trusted/wire/lease.js';
import type { Licence } from '../../src/trusted/wire/licence.js';
import { REQUEST } from '../../src/trusted/wire/messages.js';
import { Driver, type FakeBundle, fakeBundle, NOW } from './fake-port.js';

const leased = { budgetTokens: 20, leaseTokens: 5 } as const;

async function unlocked(changes: Partial<Licence> = leased): Promise<{ driver: Driver; session: number }> {
  const driver = new Driver(await fakeBundle());
  driver.expect('unlock', await driver.grant(changes));
  return { driver, session: authorised(driver) };
}

/** A session with 30 authorised tokens. */
function authorised(driver: Driver): number {
  const session = driver.session();
  driver.authorise(session, new Array<number>(30).fill(3));
  return session;
}

function request(driver: Driver): LeaseRequest {
  const jws = Buffer.from(driver.expect('leaseRequest')).toString();
  return verifyLeaseRequest(jws, driver.signingKey());
}

async function sign(lease: Partial<Lease>, keys: OwnerKeys, purpose: 'lease' | 'licence' = 'lease') {
  return new TextEncoder().encode(await signWithOwnerKey(purpose, encodeCanonicalJson(lease), keys));
}

/** What the service answers to the driver's request. */
async function answer(driver: Driver, changes: Partial<Lease> = {}): Promise<Uint8Array> {
  const { licenceId, enclaveKeyId, nonce } = request(driver);
  return sign({ licenceId, enclaveKeyId, nonce, tokens: 5, ...changes }, driver.bundle.keys);
}

const released = (reply: Uint8Array | string): string => (typeof reply === 'string' ? reply : 'released');

test('without a lease nothing is released; a lease covers its positions and no more', async () => {
  const { driver, session } = await unlocked();
  assert.equal(driver.status().leasedTokens, 0);
  assert.equal(released(driver.release(session, 1)), 'lease-needed');
  const status = decodeStatus(driver.expect('lease', await answer(driver)));
  assert.equal(status.leasedTokens, 5);
  assert.equal(released(driver.release(session, 3)), 'released');
  assert.equal(driver.status().leasedTokens, 2);
  const rows = { rows: 3, k: 1, lockedIds: new Int32Array(3), logprobs: new Float32Array(3) };
  const refused = driver.handle({ type: REQUEST.release, id: 1, body: encodeRelease({ session, ...rows }) });
  assert.deepEqual(decodeError(refused.body), { refusal: 'lease-needed', numbers: [2, 3] });
  assert.equal(driver.status().licence?.chargedTokens, 3);
  driver.expect('lease', await answer(driver));
  assert.equal(driver.status().leasedTokens, 7);
  assert.equal(released(driver.release(session, 7)), 'released');
  assert.equal(driver.status().leasedTokens, 0);
});

test('leases beyond the budget do not raise it', async () => {
  const { driver, session } = await unlocked({ budgetTokens: 4, leaseTokens: 5 });
  driver.expect('lease', await answer(driver));
  assert.equal(released(driver.release(session, 5)), 'budget-exhausted');
  assert.equal(released(driver.release(session, 4)), 'released');
  assert.equal(driver.call('leaseRequest'), 'budget-exhausted');
});

test('what could not be saved is not taken off the lease', async () => {
  const { driver, session } = await unlocked();
  driver.expect('lease', await answer(driver));
  driver.bundle.port.failSaves = true;
  assert.equal(released(driver.release(session, 2)), 'state-not-saved');
  assert.equal(driver.status().leasedTokens, 5);
});

test('the request names licence, enclave and count, is signed, and stays the same until its lease is there', async () => {
  const { driver, session } = await unlocked();
  const first = driver.expect('leaseRequest');
  assert.deepEqual(driver.expect('leaseRequest'), first);
  const { nonce, ...names } = request(driver);
  const { licenceId, enclaveKeyId } = driver.licence();
  assert.deepEqual(names, { licenceId, enclaveKeyId, chargedTokens: 0 });
  driver.expect('lease', await answer(driver));
  driver.release(session, 2);
  const next = request(driver);
  assert.equal(next.chargedTokens, 2);
  assert.notEqual(next.nonce, nonce);
  const jws = Buffer.from(first).toString();
  assert.throws(() => verifyLeaseRequest(jws, createOwnerKeys().signingKey), { code: 'signature' });
});

test('a lease that is not the owner’s answer to the open request is refused and changes nothing', async () => {
  const { driver } = await unlocked();
  const { keys } = driver.bundle;
  const names = { licenceId: 'licence-1', enclaveKeyId: driver.licence().enclaveKeyId, tokens: 5 };
  const nonce = 'A'.repeat(43);
  assert.equal(driver.call('lease', await sign({ ...names, nonce }, keys)), 'lease-refused', 'nothing was asked');
  const open = request(driver);
  const good = await answer(driver);
  const bad: Readonly<Record<string, Uint8Array>> = {
    'another nonce': await answer(driver, { nonce }),
    'another licence': await answer(driver, { licenceId: 'licence-2' }),
    'another enclave': await answer(driver, { enclaveKeyId: 'A'.repeat(43) }),
    'no tokens': await answer(driver, { tokens: 0 }),
    'part of a token': await answer(driver, { tokens: 1.5 }),
    'another owner': await sign({ ...names, nonce: open.nonce }, createOwnerKeys()),
    'another purpose': await sign({ ...names, nonce: open.nonce }, keys, 'licence'),
    'a field more': await sign({ ...names, nonce: open.nonce, note: 'x' } as Lease, keys),
    empty: new Uint8Array(0),
    'no text': new Uint8Array(100).fill(255),
    altered: good.map((byte, i) => (i === good.length - 9 ? byte ^ 1 : byte)),
  };
  for (const [what, lease] of Object.entries(bad)) {
    assert.equal(driver.call('lease', lease), 'lease-refused', what);
    assert.equal(driver.status().leasedTokens, 0, what);
  }
  driver.expect('lease', good);
  assert.equal(driver.call('lease', good), 'lease-refused', 'twice');
  request(driver);
  assert.equal(driver.call('lease', good), 'lease-refused', 'for an earlier request');
  assert.equal(driver.status().leasedTokens, 5);
});

test('a licence without leases asks for none and takes none', async () => {
  const { driver, session } = await unlocked({ budgetTokens: 20 });
  assert.equal(driver.status().leasedTokens, null);
  assert.equal(driver.call('leaseRequest'), 'lease-refused');
  assert.equal(released(driver.release(session, 20)), 'released');
});

test('leases end with their licence, with its time and with the teacher', async () => {
  const { driver } = await unlocked();
  driver.expect('lease', await answer(driver));
  const late = await answer(driver);
  driver.expect('unlock', await driver.grant({ ...leased, licenceId: 'licence-2' }));
  assert.equal(driver.status().leasedTokens, 0);
  assert.equal(driver.call('lease', late), 'lease-refused');
  assert.equal(request(driver).licenceId, 'licence-2');
  driver.bundle.port.clock = NOW + 101;
  assert.equal(driver.call('leaseRequest'), 'licence-expired');
  assert.equal(driver.call('lease', late), 'licence-expired');
  driver.expect('destroy');
  assert.equal(driver.call('leaseRequest'), 'destroyed');
  const fresh = new Driver(await fakeBundle());
  assert.equal(fresh.call('leaseRequest'), 'not-unlocked');
  assert.equal(fresh.call('lease', late), 'not-unlocked');
});

/** Releases `rows`, then starts again from the sealed file as it was before; returns the new enclave and the messages that were seen. */
async function rollBack(bundle: FakeBundle, driver: Driver, rows: number): Promise<Driver> {
  const old = bundle.port.state!;
  assert.equal(released(driver.release(authorised(driver), rows)), 'released');
  bundle.port.state = old;
  return new Driver(bundle);
}

test('with leases, an old sealed file put back brings no budget: the lease died with its process', async () => {
  const { driver } = await unlocked();
  const lease = await answer(driver);
  driver.expect('lease', lease);
  const restored = await rollBack(driver.bundle, driver, 5);
  assert.equal(restored.status().licence?.chargedTokens, 0, 'the count itself did go back');
  assert.equal(restored.status().leasedTokens, 0);
  const session = authorised(restored);
  assert.equal(released(restored.release(session, 1)), 'lease-needed');
  assert.equal(restored.call('lease', lease), 'lease-refused');
  request(restored);
  assert.equal(restored.call('lease', lease), 'lease-refused', 'the old lease names the old nonce');
  assert.equal(released(restored.release(session, 1)), 'lease-needed');
});

test('LIMITATION: without leases, an old sealed file put back does bring the budget back', async () => {
  const { driver } = await unlocked({ budgetTokens: 20 });
  const restored = await rollBack(driver.bundle, driver, 20);
  assert.equal(driver.status().state, 'exhausted');
  assert.equal(released(restored.release(authorised(restored), 20)), 'released');
});
