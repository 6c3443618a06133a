// A whole job in a network namespace where only the licence service's address exists, packets counted by the kernel: after unlock none is
// sent or received until `destroy`, unless the licence asks for leases, and then exactly with those that the ledger lists.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryFolder } from '../owner/tiny-model.js';
import type { DeviceReport, Packets } from './netns-device.js';

/** Root makes a network namespace as it is; others need a user namespace around it. */
const UNSHARE = process.getuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];

/** Why there can be no namespace here; null: there can be. In CI that is a failure, not a skip. */
function missing(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are Linux';
  const probe = ['ip', 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1'];
  const { status, error, stderr } = spawnSync('unshare', [...UNSHARE, ...probe], { encoding: 'utf8' });
  if (status === 0) return null;
  const why = error?.message ?? stderr.trim();
  return `no network namespace can be made here (needs iproute2, and root or user namespaces): ${why}`;
}

const reason = missing();
const skip = reason !== null && process.env.CI !== 'true' ? reason : false;

async function run(t: TestContext, leaseTokens: number): Promise<DeviceReport> {
  assert.equal(reason, null, reason ?? '');
  const folder = await temporaryFolder(t);
  const device = join(import.meta.dirname, 'netns-device.js');
  const words = [...UNSHARE, process.execPath, device, folder, String(leaseTokens)];
  const { status, stdout, stderr } = spawnSync('unshare', words, { encoding: 'utf8', timeout: 300_000 });
  assert.equal(status, 0, stderr);
  const report = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as DeviceReport;
  assert.match(report.routes, /^10\.77\.0\.0\/30 dev dev0 [^\n]*$/, 'one link and no way beyond it');
  assert.equal(report.elsewhere, 'ENETUNREACH');
  assert.deepEqual(report.loopback, { sent: 0, received: 0 });
  assert.deepEqual(report.start, { sent: 0, received: 0 });
  // The control: what is sent is counted.
  const conversation = since(report.start, report.unlocked);
  assert.ok(conversation.sent >= 10 && conversation.received >= 6, JSON.stringify(conversation));
  const farewell = since(report.jobDone, report.destroyed);
  assert.ok(farewell.sent >= 4 && farewell.received >= 3, JSON.stringify(farewell));
  assert.deepEqual(report.destroy.closed, [
    { licenceId: report.destroy.receipt.licences[0].licenceId, state: 'closed' },
  ]);
  assert.equal(report.destroy.receipt.licences[0].chargedTokens, report.charged);
  assert.ok(report.charged > 500, `${report.charged} tokens were released`);
  assert.equal(report.ledger.chain, 'verified');
  return report;
}

function since(before: Packets, after: Packets): Packets {
  return { sent: after.sent - before.sent, received: after.received - before.received };
}

function purposes({ ledger }: DeviceReport, after: boolean): string[] {
  const entries = ledger.entries as { direction: string; purpose: string; afterUnlock: boolean }[];
  return entries
    .filter(({ afterUnlock }) => afterUnlock === after)
    .map((entry) => `${entry.direction} ${entry.purpose}`);
}

const before = ['out challenge', 'in challenge', 'out evidence', 'in grant'];

test('between unlock and destroy not one packet is sent or received', { skip }, async (t) => {
  const report = await run(t, 0);
  assert.deepEqual(since(report.unlocked, report.jobDone), { sent: 0, received: 0 });
  assert.deepEqual(purposes(report, false), before);
  assert.deepEqual(purposes(report, true), ['out receipt', 'in receipt']);
});

test('with leases packets are sent for each lease in the ledger, and for nothing else', { skip }, async (t) => {
  const report = await run(t, 400);
  const { count, packets } = report.leases;
  assert.ok(count >= 2 && count === Math.ceil(report.charged / 400), `${count} leases for ${report.charged} tokens`);
  assert.ok(packets.sent >= 4 * count);
  assert.deepEqual(since(report.unlocked, report.jobDone), packets);
  assert.deepEqual(purposes(report, false), before);
  const leases = Array.from({ length: count }, () => ['out lease-request', 'in lease']).flat();
  assert.deepEqual(purposes(report, true), [...leases, 'out receipt', 'in receipt']);
});
