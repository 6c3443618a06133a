// A device in a network namespace whose only other address is the licence service's. It does a whole job and says on stdout, as one line
// of JSON, how many packets each part of it sent and received. Started by network-namespace.test.ts. Not a test itself.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { openConfiguredTeacher } from '../../src/cli/open-teacher.js';
import { loadConfig } from '../../src/edge/config.js';
import { distill } from '../../src/edge/distill.js';
import { loadOwnerKeys } from '../../src/owner/owner-keys.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { json, lockStories, type Owned, writeRun } from '../cli/command-line.js';
import type { ServiceOrder } from './netns-service.js';

export interface Packets {
  readonly sent: number;
  readonly received: number;
}

export interface DeviceReport {
  /** Addresses that this namespace has routes to. */
  readonly routes: string;
  /** What connecting to any other address ends in. */
  readonly elsewhere: string;
  readonly start: Packets;
  readonly unlocked: Packets;
  readonly jobDone: Packets;
  readonly destroyed: Packets;
  /** Loopback, at the end. */
  readonly loopback: Packets;
  /** Packets within the fetching of leases, of which there were so many. */
  readonly leases: { readonly count: number; readonly packets: Packets };
  readonly charged: number;
  // biome-ignore lint/suspicious/noExplicitAny: what `ledger show --json` prints.
  readonly ledger: any;
  // biome-ignore lint/suspicious/noExplicitAny: what `destroy --json` prints.
  readonly destroy: any;
}

const DEVICE = { address: '10.77.0.2', mac: '02:00:00:00:77:02', link: 'dev0' };
const SERVICE = { address: '10.77.0.1', mac: '02:00:00:00:77:01', link: 'svc0' };
const BUDGET = 100_000;

/** Static neighbours: no packet of address resolution is ever sent, so every packet counted is one that a program sent. */
function linkUp(own: typeof DEVICE, other: typeof DEVICE): string[][] {
  return [
    // Links announce themselves over IPv6.
    ['sh', '-c', 'test ! -e "$1" || echo 1 > "$1"', 'sh', `/proc/sys/net/ipv6/conf/${own.link}/disable_ipv6`],
    ['ip', 'addr', 'add', `${own.address}/30`, 'dev', own.link],
    ['ip', 'link', 'set', own.link, 'up'],
    ['ip', 'neigh', 'add', other.address, 'lladdr', other.mac, 'dev', own.link, 'nud', 'permanent'],
  ];
}

/** Counters of a link of this namespace. */
function packetsOf(link: string): Packets {
  const line = readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .find((text) => text.trim().startsWith(`${link}:`));
  const fields = line?.split(':')[1]?.trim().split(/\s+/).map(Number) ?? [];
  return { received: fields[1] ?? -1, sent: fields[9] ?? -1 };
}

/** After the last packets of a connection that was closed. */
async function settled(): Promise<Packets> {
  await delay(500);
  return packetsOf(DEVICE.link);
}

async function startService(
  order: Omit<ServiceOrder, 'setup' | 'host'>,
): Promise<{ url: string; activationCode: string }> {
  const program = join(import.meta.dirname, 'netns-service.js');
  const child = spawn('unshare', ['--net', process.execPath, program], { stdio: ['pipe', 'pipe', 'inherit'] });
  const { pid } = child;
  const ours = readlinkSync('/proc/self/ns/net');
  // Until it has left this namespace, the far end would land here.
  while (readlinkSync(`/proc/${pid}/ns/net`) === ours) await delay(20);
  execFileSync('ip', [
    ...['link', 'add', DEVICE.link, 'address', DEVICE.mac, 'type', 'veth'],
    ...['peer', 'name', SERVICE.link, 'address', SERVICE.mac, 'netns', String(pid)],
  ]);
  for (const [command = '', ...words] of linkUp(DEVICE, SERVICE)) execFileSync(command, words);
  const all: ServiceOrder = { ...order, setup: linkUp(SERVICE, DEVICE), host: SERVICE.address };
  child.stdin.write(`${JSON.stringify(all)}\n`);
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line);
  throw new Error('the service ended before it listened');
}

function connectElsewhere(): Promise<string> {
  return new Promise((resolve) => {
    connect({ host: '192.0.2.1', port: 443 })
      .on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'))
      .on('connect', () => resolve('connected'));
  });
}

/** The job by its verbs, as its user runs it. */
async function jobByVerbs(config: string, { bundle, state }: Owned): Promise<DeviceReport['leases']> {
  await json('distill', config);
  await json('generate', '--model', bundle, ...state, '--prompt', 'Once upon a time', '--max_new_tokens', '20');
  return { count: 0, packets: { sent: 0, received: 0 } };
}

/** The job in this process, where each fetching of a lease can be watched. */
async function jobWithLeases(file: string): Promise<DeviceReport['leases']> {
  const config = await loadConfig(file, {});
  const teacher = await openConfiguredTeacher(config, { note: () => undefined, signal: new AbortController().signal });
  try {
    const fetchLease = teacher.client.fetchLease!;
    let count = 0;
    const packets = { sent: 0, received: 0 };
    teacher.client.fetchLease = async (request) => {
      const before = packetsOf(DEVICE.link);
      const lease = await fetchLease(request);
      const after = await settled();
      count += 1;
      packets.sent += after.sent - before.sent;
      packets.received += after.received - before.received;
      return lease;
    };
    await distill(config, teacher);
    return { count, packets };
  } finally {
    await teacher.close();
  }
}

async function main(folder: string, leaseTokens: number): Promise<void> {
  const owned = await lockStories(folder, 'teacher');
  const { bundle, publicKey, state } = owned;
  const { bundleId, simulatedRoot } = await json('enclave', '--bundle', bundle, ...state, '--owner_key', publicKey);
  const secrets = await loadOwnerKeys(owned.keys);
  const keys = {
    signingSecret: encodeBase64url(secrets.signingSecret),
    signingKey: encodeBase64url(secrets.signingKey),
    bundleKey: encodeBase64url(secrets.bundleKey),
    lockSeed: encodeBase64url(secrets.lockSeed),
  };
  const database = join(folder, 'service');
  await mkdir(database, { recursive: true });
  const limits = { budgetTokens: BUDGET, leaseTokens };
  const service = await startService({ folder: database, bundleId, simulatedRoot, keys, ...limits });
  const routes = execFileSync('ip', ['route'], { encoding: 'utf8' }).trim();
  const elsewhere = await connectElsewhere();
  const start = packetsOf(DEVICE.link);

  const relay = ['--licence_service', service.url, '--insecure_http', '--activation_code', service.activationCode];
  await json('enclave', '--bundle', bundle, ...state, ...relay);
  const unlocked = await settled();

  const config = await writeRun(folder, bundle);
  const leases = leaseTokens === 0 ? await jobByVerbs(config, owned) : await jobWithLeases(config);
  const { licence } = await json('enclave', '--bundle', bundle, ...state);
  const jobDone = await settled();

  const destroy = await json('destroy', '--bundle', bundle, ...state, '--receipt', join(folder, 'receipt'), '--yes');
  const destroyed = await settled();
  const [ledger] = await json('ledger', 'show', ...state);
  const counts = { start, unlocked, jobDone, destroyed, loopback: packetsOf('lo'), leases };
  const report: DeviceReport = { routes, elsewhere, ...counts, charged: licence.chargedTokens, ledger, destroy };
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

const [folder = '', leaseTokens = '0'] = process.argv.slice(2);
main(folder, Number(leaseTokens)).then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
    process.exit(1);
  },
);
