// A licence with leases through a real enclave process: the client fetches what a release needs, and the ledger shows what left.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyLeaseRequest } from '../../src/attest/lease-request.js';
import { signWithOwnerKey } from '../../src/owner/sign.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import { PolicyError } from '../../src/trusted/wire/errors.js';
import { appraised, lockTiny, start, unlock } from './licensed-enclave.js';

test('releases fetch the leases they need, also at the same time, until the service has no more', async (t) => {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  const { client } = enclave;
  const { signingKey } = (await appraised(bundle, enclave)).claims;
  await unlock(bundle, enclave, { budgetTokens: 100, leaseTokens: 4 });
  const session = await client.begin({ topK: 8, temperature: 1 });
  await session.authorise(new Int32Array(40).fill(1));
  const rows = (count: number) => ({
    rows: count,
    k: 1,
    lockedIds: new Int32Array(count),
    logprobs: new Float32Array(count),
  });
  await assert.rejects(session.release(rows(3)), {
    code: 'lease-needed',
    details: { leasedTokens: 0, requestedTokens: 3 },
  });

  let issued = 0;
  client.fetchLease = async (request) => {
    if (issued === 5) throw new PolicyError('licence-revoked', 'the licence was revoked');
    issued += 1;
    const { licenceId, enclaveKeyId, nonce } = verifyLeaseRequest(Buffer.from(request).toString(), signingKey);
    const lease = encodeCanonicalJson({ licenceId, enclaveKeyId, nonce, tokens: 4 });
    return Buffer.from(await signWithOwnerKey('lease', lease, bundle.keys));
  };
  // 3 + 3 + 9 rows: four leases of 4 tokens, one of them left.
  const replies = await Promise.all([3, 3, 9].map((count) => session.release(rows(count))));
  assert.deepEqual(
    replies.map(({ tokenIds }) => tokenIds.length),
    [3, 3, 9],
  );
  assert.equal(issued, 4);
  const { leasedTokens, licence } = await client.status();
  assert.deepEqual([leasedTokens, licence?.chargedTokens], [1, 15]);
  await assert.rejects(session.release(rows(6)), { code: 'licence-revoked' });
  assert.equal((await client.status()).licence?.chargedTokens, 15);

  const after = client.ledger.entries.filter(({ afterUnlock }) => afterUnlock);
  assert.deepEqual(
    after.map(({ direction, purpose }) => `${direction} ${purpose}`),
    [...new Array(5).fill(['out lease-request', 'in lease']).flat(), 'out lease-request'],
  );
  const left = after.filter(({ direction }) => direction === 'out').reduce((sum, { bytes }) => sum + bytes, 0);
  assert.equal(client.egressBytesAfterUnlock, left);
});
