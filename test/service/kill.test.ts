// kill -9 in the middle of grants and leases, again and again: nothing is lost, nothing is given twice, no key lies on disk.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { createSimulatedRoot } from '../../bench/workload/device.js';
import { killRepeatedly } from '../../bench/workload/kills.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { folder, serverFolder, serverUrl, skipServer } from './databases.js';

const KILLS = 10;
const REQUESTS = 12;

async function tenKills(database: string, dataFolder: string): Promise<void> {
  const setup = { database, dataFolder, keys: createOwnerKeys(), root: createSimulatedRoot() };
  const report = await killRepeatedly({ ...setup, kills: KILLS, requests: REQUESTS });
  const { cutOff, ...rest } = report;
  const auditEntries = 3 * KILLS * REQUESTS;
  assert.deepEqual(rest, { lost: 0, twice: 0, auditEntries, secretsOnDisk: [] }, 'issued, granted, leased: once each');
  assert.ok(cutOff >= KILLS, `only ${cutOff} requests were cut off`);
}

test('ten kills of a service on PGlite', async () => {
  const location = join(folder(), 'licences');
  await tenKills(location, location);
});

test('ten kills of a service on PostgreSQL', { skip: skipServer() }, async () => {
  await tenKills(await serverUrl(), await serverFolder());
});
