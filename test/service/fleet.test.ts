// Several service processes on one PostgreSQL: however requests fall, devices, budget and nonces are counted once.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { writeSimulatedPolicy } from '../../bench/workload/service-process.js';
import { saveOwnerKeys } from '../../src/owner/owner-keys.js';
import { issueLicence, showLicence } from '../../src/owner/service/licences.js';
import { linkAudit, verifyAudit } from '../../src/owner/store/audit.js';
import { type Database, openDatabase } from '../../src/owner/store/database.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { verifyLease } from '../../src/trusted/wire/lease.js';
import { start, until } from '../cli/command-line.js';
import { folder, serverUrl, skipServer } from './databases.js';
import { type Client, clientAt, createParties, nowSeconds, order, type Parties, type Reply } from './served.js';

const PROCESSES = 3;

interface Fleet extends Parties {
  readonly database: Database;
  readonly clients: readonly Client[];
}

async function startFleet(t: TestContext): Promise<Fleet> {
  const dir = folder();
  const location = await serverUrl();
  const parties = createParties();
  await saveOwnerKeys(join(dir, 't.keys'), parties.keys);
  const args = ['--keys', 't.keys', '--database', location, '--listen', '127.0.0.1:0', '--json'];
  await writeSimulatedPolicy(join(dir, 'policy.yaml'), parties.root);
  // All at once on an empty database: the schema, too, is made by one of them.
  const services = Array.from({ length: PROCESSES }, () =>
    start(dir, 'licence', 'serve', ...args, '--policy', 'policy.yaml'),
  );
  t.after(() => services.map(({ child }) => child.kill('SIGKILL')));
  const clients: Client[] = [];
  for (const { output } of services) {
    clients.push(clientAt(await until('the ready line', () => /"event":"ready","url":"([^"]+)"/.exec(output())?.[1])));
  }
  const database = await openDatabase(location);
  t.after(() => database.close());
  return { ...parties, database, clients };
}

const codes = (replies: readonly Reply[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const { body } of replies) {
    const code = String(body.error?.code ?? 'ok');
    counts[code] = (counts[code] ?? 0) + 1;
  }
  return counts;
};

test('200 parallel requests at 3 processes never exceed devices, budget or one grant a nonce', {
  skip: skipServer(),
}, async (t) => {
  const { database, clients, device, keys } = await startFleet(t);
  const client = (i: number): Client => clients[i % PROCESSES]!;

  const shared = await issueLicence(
    database,
    order({ maxDevices: 5, leaseTokens: 10, budgetTokens: 1000 }),
    nowSeconds(),
  );
  const { licenceId } = shared.licence;
  const devices = await Promise.all(Array.from({ length: 200 }, () => device()));
  const asked = await Promise.all(
    devices.map(async (each, i) => {
      const nonce = await client(i).challenge();
      return client(i + 1).grant(nonce, each.evidence(nonce), shared.activationCode);
    }),
  );
  assert.deepEqual(codes(asked), { ok: 5, 'devices-exhausted': 195 });
  assert.equal((await showLicence(database, licenceId)).seats.length, 5);

  // 150 leases where the budget has 100, each asked for twice at two processes.
  const holders = devices.filter((_, i) => asked[i]!.status === 200);
  const requests = Array.from({ length: 150 }, (_, i) => {
    return holders[i % 5]!.leaseRequest(licenceId, { nonce: encodeBase64url(randomBytes(32)) });
  });
  const leased = await Promise.all(
    requests.map((request, i) => Promise.all([0, 1].map((k) => client(i + k).post('/v1/leases', { request })))),
  );
  let tokens = 0;
  for (const [first, second] of leased as [Reply, Reply][]) {
    assert.deepEqual(first, second);
    if (first.status === 200) tokens += verifyLease(first.body.lease, keys.signingKey).tokens;
    else assert.equal(first.body.error.code, 'budget-exhausted');
  }
  assert.equal(tokens, 1000);
  assert.equal((await showLicence(database, licenceId)).licence.leasedTokens, 1000);

  // One nonce, the same question 200 times: one grant, one answer.
  const single = await issueLicence(database, order(), nowSeconds());
  const alice = await device();
  const nonce = await client(0).challenge();
  const evidence = alice.evidence(nonce);
  const same = await Promise.all(
    Array.from({ length: 200 }, (_, i) => client(i).grant(nonce, evidence, single.activationCode)),
  );
  assert.deepEqual(codes(same), { ok: 200 });
  assert.equal(new Set(same.map(({ body }) => body.grant)).size, 1);

  // One device, many nonces: without leases it has the licence once.
  const other = await issueLicence(database, order(), nowSeconds());
  const bob = await device();
  const many = await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const fresh = await client(i).challenge();
      return client(i + 1).grant(fresh, bob.evidence(fresh), other.activationCode);
    }),
  );
  assert.deepEqual(codes(many), { ok: 1, 'licence-used': 59 });

  const head = await linkAudit(database);
  assert.deepEqual(await verifyAudit(database), head);
  const grants = await database.query<{ count: number }>("SELECT count(*) FROM audit WHERE event = 'granted'");
  assert.equal(grants[0]?.count, 7, 'a request that was rolled back left no entry');
});
