// The enclave's state machine: every message in every state, licences that must not unlock, the budget, sealed state.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyReceipt } from '../../src/attest/receipt.js';
import { decodeError, decodeIds, decodeReleaseReply } from '../../src/edge/enclave/decode-replies.js';
import { encodeRelease } from '../../src/edge/enclave/encode-requests.js';
import { encodeGrantContents, encodeLicence } from '../../src/owner/encode-grant.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { signWithOwnerKey } from '../../src/owner/sign.js';
import { invertPermutation } from '../../src/trusted/lock/stream.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import type { Licence } from '../../src/trusted/wire/licence.js';
import * as messages from '../../src/trusted/wire/messages.js';
import type { EnclaveState } from '../../src/trusted/wire/status.js';
import { Driver, fakeBundle, NOW, shape } from './fake-port.js';

/** An enclave driven into `state`, with an open session where one can exist. */
async function inState(state: EnclaveState): Promise<{ driver: Driver; session: number }> {
  const bundle = await fakeBundle();
  const driver = new Driver(bundle);
  if (state === 'fresh') return { driver, session: 1 };
  const grant = await driver.grant();
  if (state === 'attested') return { driver, session: 1 };
  driver.expect('unlock', grant);
  const session = driver.session();
  driver.authorise(session, new Array<number>(20).fill(3));
  if (state === 'exhausted') assert.equal(typeof driver.release(session, 10), 'object');
  if (state === 'expired') bundle.port.clock = NOW + 101;
  if (state === 'destroyed') driver.expect('destroy');
  assert.equal(driver.status().state, state);
  return { driver, session };
}

const answered = 'answered';
type Row = Readonly<Record<'attest' | 'unlock' | 'begin' | 'authorise' | 'release' | 'status' | 'destroy', string>>;
const locked: Row = {
  attest: answered,
  unlock: 'not-attested',
  begin: 'not-unlocked',
  authorise: 'not-unlocked',
  release: 'not-unlocked',
  status: answered,
  destroy: answered,
};
const all = (code: string): Pick<Row, 'begin' | 'authorise' | 'release'> => ({
  begin: code,
  authorise: code,
  release: code,
});
const TABLE: Readonly<Record<EnclaveState, Row>> = {
  fresh: locked,
  attested: { ...locked, unlock: 'grant-unreadable' },
  unlocked: { ...locked, ...all(answered), unlock: 'grant-unreadable' },
  exhausted: { ...locked, ...all('budget-exhausted'), unlock: 'grant-unreadable' },
  expired: { ...locked, ...all('licence-expired'), unlock: 'grant-unreadable' },
  destroyed: { ...locked, ...all('destroyed'), attest: 'destroyed', unlock: 'destroyed' },
};

for (const [state, row] of Object.entries(TABLE) as [EnclaveState, Row][]) {
  for (const [request, expected] of Object.entries(row) as [keyof Row, string][]) {
    test(`${request} when ${state}: ${expected}`, async () => {
      const { driver, session } = await inState(state);
      const calls: Readonly<Record<keyof Row, () => Uint8Array | string>> = {
        attest: () => driver.call('attest', new Uint8Array(32)),
        unlock: () => driver.call('unlock'),
        begin: () => driver.begin(),
        authorise: () => driver.authorise(session, [1]),
        release: () => driver.release(session, 1),
        status: () => driver.call('status'),
        destroy: () => driver.call('destroy'),
      };
      const reply = calls[request]();
      assert.equal(typeof reply === 'string' ? reply : answered, expected);
    });
  }
}

const BAD_LICENCES: readonly [string, Partial<Licence>, string][] = [
  ['another bundle', { bundleId: 'f'.repeat(64) }, 'licence-other-bundle'],
  ['another enclave', { enclaveKeyId: 'A'.repeat(43) }, 'licence-other-enclave'],
  ['an ended licence', { expires: NOW - 1 }, 'licence-expired'],
  ['a licence of the future', { notBefore: NOW + 1 }, 'licence-not-yet-valid'],
];
for (const [what, changes, refusal] of BAD_LICENCES) {
  test(`${what} does not unlock`, async () => {
    const driver = new Driver(await fakeBundle());
    assert.equal(driver.call('unlock', await driver.grant(changes)), refusal);
    assert.equal(driver.status().state, 'attested');
    assert.equal(driver.bundle.port.state, null);
  });
}

test('a licence signed by anyone but the owner, or for another purpose, or altered, does not unlock', async () => {
  const driver = new Driver(await fakeBundle());
  assert.equal(driver.call('unlock', await driver.grant({}, createOwnerKeys())), 'licence-signature');
  const { keys } = driver.bundle;
  const receipt = await signWithOwnerKey('receipt', encodeLicence(driver.licence()), keys);
  const contents = { bundleKey: keys.bundleKey, licenceJws: receipt };
  assert.equal(driver.call('unlock', encodeGrantContents(contents)), 'licence-malformed');
  const good = await signWithOwnerKey('licence', encodeLicence(driver.licence()), keys);
  const bigger = await signWithOwnerKey(
    'licence',
    encodeLicence(driver.licence({ budgetTokens: 99 })),
    createOwnerKeys(),
  );
  const [header, , signature] = good.split('.');
  const forged = `${header}.${bigger.split('.')[1]}.${signature}`;
  assert.equal(driver.call('unlock', encodeGrantContents({ ...contents, licenceJws: forged })), 'licence-signature');
  const wrongKey = { bundleKey: new Uint8Array(32), licenceJws: good };
  assert.equal(driver.call('unlock', encodeGrantContents(wrongKey)), 'bundle-key-wrong');
  assert.notEqual(typeof driver.call('unlock', encodeGrantContents({ ...contents, licenceJws: good })), 'string');
});

test('token by token, a row is charged with its token: one save each, the last one given back at a clean end and lost at a kill', async () => {
  const driver = new Driver(await fakeBundle());
  const { port } = driver.bundle;
  const charged = (of: Driver): number | undefined => of.status().licence?.chargedTokens;
  driver.expect('unlock', await driver.grant());
  const session = driver.session();
  const before = port.saves;
  for (let token = 1; token <= 3; token += 1) {
    driver.authorise(session, [token]);
    assert.equal(port.saves, before + token, 'saved with the token');
    assert.notEqual(typeof driver.release(session, 1), 'string');
    assert.deepEqual([port.saves, charged(driver)], [before + token, token], 'and not again with its row');
  }
  driver.authorise(session, [1]);
  driver.authorise(session, [2]);
  assert.deepEqual(
    [charged(driver), charged(new Driver(driver.bundle))],
    [3, 4],
    'what was not released counts only on disk',
  );
  driver.authorise(session, [3, 4]);
  driver.release(session, 3);
  assert.deepEqual([charged(driver), charged(new Driver(driver.bundle))], [6, 6], 'more rows use what was charged');
  port.failSaves = true;
  assert.equal(driver.authorise(session, [5]), 'state-not-saved');
  port.failSaves = false;
  driver.authorise(session, [5]);
  driver.enclave.settle();
  assert.equal(charged(new Driver(driver.bundle)), 6, 'a clean end gives it back');
});

test('the budget is charged before the answer, never beyond, and not for what is refused', async () => {
  const driver = new Driver(await fakeBundle());
  const { port } = driver.bundle;
  driver.expect('unlock', await driver.grant());
  const session = driver.session();
  driver.authorise(session, new Array<number>(30).fill(0));
  driver.release(session, 7);
  assert.equal(driver.status().licence?.remainingTokens, 3);
  port.failSaves = true;
  assert.equal(driver.release(session, 1), 'state-not-saved');
  port.failSaves = false;
  const request = { session, rows: 4, k: 1, lockedIds: new Int32Array(4), logprobs: new Float32Array(4) };
  const reply = driver.handle({ type: messages.REQUEST.release, id: 3, body: encodeRelease(request) });
  assert.deepEqual(decodeError(reply.body), { refusal: 'budget-exhausted', numbers: [3, 4] });
  assert.equal(driver.status().licence?.chargedTokens, 7);
  assert.equal(new Driver(driver.bundle).status().licence?.chargedTokens, 7);
  assert.notEqual(typeof driver.release(session, 3), 'string');
  assert.equal(driver.status().state, 'exhausted');
});

test('an exhausted enclave takes a further licence, but none twice, and the receipt lists all', async () => {
  const driver = new Driver(await fakeBundle());
  driver.expect('unlock', await driver.grant());
  const session = driver.session();
  driver.authorise(session, new Array<number>(30).fill(0));
  driver.release(session, 10);
  assert.equal(driver.call('unlock', await driver.grant()), 'licence-replayed');
  driver.expect('unlock', await driver.grant({ licenceId: 'licence-2', budgetTokens: 5 }));
  assert.equal(driver.release(session, 1), 'unknown-session');
  const next = driver.session();
  driver.authorise(next, [1, 2]);
  driver.release(next, 2);
  const key = driver.signingKey();
  assert.deepEqual(verifyReceipt(driver.expect('destroy'), key).licences, [
    { licenceId: 'licence-1', budgetTokens: 10, chargedTokens: 10 },
    { licenceId: 'licence-2', budgetTokens: 5, chargedTokens: 2 },
  ]);
});

test('a further licence takes the place of one that has not ended: what was left of it lapses', async () => {
  const driver = new Driver(await fakeBundle());
  driver.expect('unlock', await driver.grant());
  const session = driver.session();
  driver.authorise(session, new Array<number>(30).fill(0));
  driver.release(session, 4);
  driver.expect('unlock', await driver.grant({ licenceId: 'licence-2', budgetTokens: 5 }));
  assert.equal(driver.status().licence?.remainingTokens, 5);
  assert.equal(driver.release(session, 1), 'unknown-session');
  assert.equal(driver.call('unlock', await driver.grant()), 'licence-replayed');
  const key = driver.signingKey();
  const { licences } = verifyReceipt(driver.expect('destroy'), key);
  assert.deepEqual(
    licences.map(({ chargedTokens }) => chargedTokens),
    [4, 0],
  );
});

test('release undoes the permutation and enforces top-k, distinct ids, log-probabilities and authorised rows', async () => {
  const driver = new Driver(await fakeBundle());
  driver.expect('unlock', await driver.grant());
  const session = driver.session();
  assert.equal(driver.release(session, 1), 'release-not-authorised');
  const vocabulary = vocabularyPermutation(driver.bundle.keys.lockSeed, 'permutation', shape.vocabSize);
  const ids = decodeIds(driver.authorise(session, [0, 49, 7]) as Uint8Array);
  assert.deepEqual([...ids], [vocabulary[0], vocabulary[49], vocabulary[7]]);
  for (const bad of [-1, 50, 2 ** 31 - 1, -(2 ** 31)]) {
    assert.equal(driver.authorise(session, [1, bad]), 'token-out-of-range');
  }
  assert.equal(driver.release(session, 4), 'release-not-authorised');
  assert.equal(driver.release(session, 1, 5), 'top-k-too-large');
  assert.equal(driver.begin(5), 'top-k-too-large');
  assert.equal(driver.begin(0), 'malformed');
  for (const temperature of [0.99, 2.01, Number.NaN, -1, Number.POSITIVE_INFINITY]) {
    assert.equal(driver.begin(4, temperature), 'temperature-not-licensed');
  }
  const send = (lockedIds: number[], logprobs: number[], k = 2): Uint8Array | string => {
    const arrays = { lockedIds: Int32Array.from(lockedIds), logprobs: Float32Array.from(logprobs) };
    return driver.call('release', encodeRelease({ session, rows: lockedIds.length / k, k, ...arrays }));
  };
  assert.equal(send([3, 3], [-1, -2]), 'release-malformed');
  assert.equal(send([3, 50], [-1, -2]), 'release-malformed');
  assert.equal(send([3, -1], [-1, -2]), 'release-malformed');
  for (const value of [0.01, Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]) {
    assert.equal(send([3, 4], [-1, value]), 'release-malformed');
  }
  assert.equal(driver.status().licence?.chargedTokens, 0);
  const token = invertPermutation(vocabulary);
  const reply = decodeReleaseReply(send([3, 4, 4, 3], [-3, -0.1, 0, -7]) as Uint8Array);
  assert.deepEqual([...reply.tokenIds], [token[3], token[4], token[4], token[3]]);
  assert.deepEqual([...reply.logprobs], [-3, Math.fround(-0.1), 0, -7]);
});

test('half precision is enforced inside', async () => {
  const driver = new Driver(await fakeBundle());
  driver.expect('unlock', await driver.grant({ precision: 'float16' }));
  const session = driver.session();
  driver.authorise(session, [1]);
  const arrays = { lockedIds: Int32Array.of(1, 2), logprobs: Float32Array.of(-1.00001, -0.33333333) };
  const body = driver.expect('release', encodeRelease({ session, rows: 1, k: 2, ...arrays }));
  assert.deepEqual([...decodeReleaseReply(body).logprobs], [-1, -0.333251953125]);
});

test('sealed state: counts survive, a set-back clock does not revive a licence, alteration and other bundles are refused', async () => {
  const bundle = await fakeBundle();
  const driver = new Driver(bundle);
  driver.expect('unlock', await driver.grant());
  bundle.port.clock = NOW + 50;
  const session = driver.session();
  driver.authorise(session, [1, 2]);
  driver.release(session, 2);
  const key = driver.signingKey();
  bundle.port.clock = NOW;
  const restarted = new Driver(bundle);
  assert.equal(restarted.status().state, 'unlocked');
  assert.equal(restarted.status().licence?.chargedTokens, 2);
  assert.deepEqual(restarted.signingKey(), key);
  bundle.port.clock = NOW + 101;
  assert.equal(restarted.status().state, 'expired');
  const good = bundle.port.state!;
  for (let at = 0; at < good.length; at++) {
    bundle.port.state = good.map((byte, i) => (i === at ? byte ^ 1 : byte));
    assert.throws(() => new Driver(bundle), { code: 'sealed-state' });
    bundle.port.state = good.slice(0, at);
    assert.throws(() => new Driver(bundle), { code: 'sealed-state' });
  }
  const other = await fakeBundle();
  other.port.state = good;
  assert.throws(() => new Driver(other), { code: 'sealed-state' });
  const text = Buffer.from(good).toString('latin1');
  for (const secret of [bundle.keys.bundleKey, bundle.keys.lockSeed]) {
    assert.equal(text.includes(Buffer.from(secret).toString('latin1')), false);
  }
});

test('destroy is final, repeats its receipt, survives restart, and fails whole when it cannot be saved', async () => {
  const bundle = await fakeBundle();
  const driver = new Driver(bundle);
  const grant = await driver.grant();
  driver.expect('unlock', grant);
  const key = driver.signingKey();
  bundle.port.failSaves = true;
  assert.equal(driver.call('destroy'), 'state-not-saved');
  assert.equal(driver.status().state, 'unlocked');
  bundle.port.failSaves = false;
  const receipt = driver.expect('destroy');
  assert.equal(verifyReceipt(receipt, key).time, NOW);
  assert.deepEqual(driver.expect('destroy'), receipt);
  const restarted = new Driver(bundle);
  assert.equal(restarted.status().state, 'destroyed');
  assert.equal(restarted.call('unlock', grant), 'destroyed');
  assert.deepEqual(restarted.expect('destroy'), receipt);
});

test('a manifest of another owner, altered, or with another sealed part does not start', async () => {
  const { port } = await fakeBundle();
  const other = await fakeBundle();
  assert.throws(() => new Driver({ ...other, port: { ...port, ownerKey: other.port.ownerKey } }), {
    code: 'signature',
  });
  const manifest = port.bundle.manifest.slice();
  manifest[30]! ^= 1;
  assert.throws(() => new Driver({ ...other, port: { ...port, bundle: { ...port.bundle, manifest } } }), {
    code: 'signature',
  });
  const { sealedPart } = other.port.bundle;
  assert.throws(() => new Driver({ ...other, port: { ...port, bundle: { ...port.bundle, sealedPart } } }), {
    code: 'sealed-part',
  });
});
