// Opening the database: one process a folder, no older program on a newer schema, a server that is not there; and fresh policies.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../bench/workload/postgres.js';
import { simulatedPolicy } from '../../src/attest/policy/policy.js';
import { freshAppraiser, type Reference } from '../../src/owner/service/appraiser.js';
import { openDatabase } from '../../src/owner/store/database.js';
import { folder, onBoth } from './databases.js';
import { BUNDLE, createParties } from './served.js';

test('a folder serves one process at a time, and opens again afterwards', async () => {
  const location = join(folder(), 'database');
  const first = await openDatabase(location);
  await assert.rejects(openDatabase(location), {
    code: 'database-locked',
    message: new RegExp(`process ${process.pid}`),
  });
  await first.query('CREATE TABLE kept (n bigint)');
  await first.query('INSERT INTO kept VALUES ($1)', [2 ** 40]);
  await first.close();
  const again = await openDatabase(location);
  assert.deepEqual(await again.query('SELECT n FROM kept'), [{ n: 2 ** 40 }]);
  await again.close();
});

test('a server that is not there, and a URL that is none', async () => {
  const port = await freePort();
  await assert.rejects(openDatabase(`postgres://me:secret@127.0.0.1:${port}/x`), (error: Error) => {
    assert.equal((error as { code?: string }).code, 'database-unavailable');
    return !error.message.includes('secret');
  });
  await assert.rejects(openDatabase('postgres://[x/y'), { code: 'database-url' });
});

onBoth(
  'schema: made once, never run by a program older than it; a transaction is all or nothing',
  async (_t, { database, location, kind }) => {
    await assert.rejects(
      database.transaction(async (sql) => {
        await sql.query("INSERT INTO challenges VALUES ('\\x01', 'b', 1)");
        throw new Error('stop');
      }),
      /stop/,
    );
    assert.deepEqual(await database.query('SELECT * FROM challenges'), []);
    await database.query('UPDATE schema_version SET version = 99');
    if (kind === 'PGlite') await database.close();
    await assert.rejects(openDatabase(location), { code: 'database-newer' });
  },
);

test('policy and collateral are read again; a reading that fails changes nothing', async () => {
  const { root, device } = createParties();
  const other = createParties();
  const failures: unknown[] = [];
  let reference: Reference | Error = { policy: simulatedPolicy(BUNDLE, root.signingKey), collateral: {} };
  let reads = 0;
  const fresh = await freshAppraiser({
    async read() {
      reads += 1;
      if (reference instanceof Error) throw reference;
      return reference;
    },
    everyMs: 20,
    onFailure: (error) => failures.push(error),
  });
  const nonce = new Uint8Array(32);
  const alice = await device();
  const judge = async (): Promise<unknown> => fresh.appraiser(alice.evidence(nonce), nonce, 0);
  await judge();
  reference = new Error('the file is being written');
  while (failures.length === 0) await delay(5);
  await judge();
  reference = { policy: simulatedPolicy(BUNDLE, other.root.signingKey), collateral: {} };
  const before = reads;
  while (reads < before + 2) await delay(5);
  await assert.rejects(judge(), { code: 'signature' });
  fresh.stop();
  await assert.rejects(
    freshAppraiser({ read: () => Promise.reject(new Error('no policy')), everyMs: 20, onFailure: () => undefined }),
    /no policy/,
  );
});
