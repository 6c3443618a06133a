// What the licence service does on one machine with PostgreSQL beside it: grants a second, latency of grants that come at 200 a second
// for a minute, verification time per evidence kind, and what 50 kills in mid-grant cost. fsync is on.
import { randomBytes } from 'node:crypto';
import { simulatedPolicy } from '../src/attest/policy/policy.js';
import { createOwnerKeys } from '../src/owner/owner-keys.js';
import { appraiserOf } from '../src/owner/service/appraiser.js';
import { openDatabase } from '../src/owner/store/database.js';
import type { BenchOptions } from './bench.js';
import { summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { BUNDLE, createDevice, createSimulatedRoot } from './workload/device.js';
import { closedLoop, openLoop, percentile, prepareGrants } from './workload/grant-load.js';
import { killRepeatedly } from './workload/kills.js';
import { startPostgres } from './workload/postgres.js';
import { prepareSgx, prepareSnp, prepareTdx } from './workload/recorded-quotes.js';
import { startService } from './workload/service-process.js';

const RATE = 200;
const SECONDS = 60;
const CLOSED_LOOP_S = 5;
const KILLS = 50;
const REQUESTS_PER_KILL = 12;
const VERIFICATIONS_PER_RUN = 100;

/** Makes what verifies one piece of evidence of a kind, from its bytes. */
export type Verification = readonly [kind: string, prepare: () => Promise<() => unknown>];

const VERIFICATIONS: readonly Verification[] = [
  ['simulated', prepareSimulated],
  ['sgx', prepareSgx],
  ['tdx', prepareTdx],
  ['snp', prepareSnp],
];

async function prepareSimulated(): Promise<() => unknown> {
  const root = createSimulatedRoot();
  const device = await createDevice({ root, bundleId: BUNDLE, ownerKey: createOwnerKeys().signingKey });
  const nonce = new Uint8Array(randomBytes(32));
  const evidence = device.evidence(nonce);
  const appraiser = appraiserOf({ policy: simulatedPolicy(BUNDLE, root.signingKey), collateral: {} });
  return () => appraiser(evidence, nonce, 0);
}

export async function run(options: BenchOptions): Promise<readonly BenchResult[]> {
  return [...(await verifications(options)), ...(await grants(options)), ...(await kills(options))];
}

async function verifications({ runs, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const results: BenchResult[] = [];
  for (const [kind, prepare] of VERIFICATIONS) {
    const verify = await prepare();
    for (let i = 0; i < VERIFICATIONS_PER_RUN; i++) await verify();
    const times: number[] = [];
    for (let each = 0; each < runs; each++) {
      const started = performance.now();
      for (let i = 0; i < VERIFICATIONS_PER_RUN; i++) await verify();
      times.push((performance.now() - started) / VERIFICATIONS_PER_RUN);
    }
    results.push(summarise(times, { metric: `verify_ms.${kind}`, unit: 'ms', better: 'lower' }));
    log(`${kind}: ${results.at(-1)!.value.toFixed(2)} ms a verification`);
  }
  return results;
}

async function grants({ runs, seconds = SECONDS, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const server = await startPostgres({ durable: true });
  const setup = { database: await server.createDatabase(), keys: createOwnerKeys(), root: createSimulatedRoot() };
  try {
    const service = await startService(setup);
    const database = await openDatabase(setup.database);
    const of = { persecond: [] as number[], p50: [] as number[], p99: [] as number[], failed: [] as number[] };
    for (let each = 0; each < runs; each++) {
      const most = await prepareGrants(database, setup, service.url, RATE * Math.min(seconds, CLOSED_LOOP_S));
      const closed = await closedLoop(service.url, most);
      const open = await openLoop(service.url, await prepareGrants(database, setup, service.url, RATE * seconds), RATE);
      of.persecond.push(closed.latencies.length / closed.seconds);
      of.p50.push(percentile(open.latencies, 0.5));
      of.p99.push(percentile(open.latencies, 0.99));
      of.failed.push(closed.failed + open.failed);
      const [p50, p99] = [of.p50.at(-1)!, of.p99.at(-1)!].map((ms) => ms.toFixed(1));
      log(
        `${of.persecond.at(-1)!.toFixed(0)} grants/s at most; at ${RATE}/s for ${seconds} s p50 ${p50} ms, p99 ${p99} ms`,
      );
    }
    await database.close();
    await service.stop();
    return [
      summarise(of.persecond, { metric: 'grants_per_second', unit: 'grants/s', better: 'higher', bar: RATE }),
      summarise(of.p50, { metric: `p50_ms.open_${RATE}`, unit: 'ms', better: 'lower' }),
      summarise(of.p99, { metric: `p99_ms.open_${RATE}`, unit: 'ms', better: 'lower' }),
      summarise(of.failed, { metric: 'grants_failed', unit: 'requests', better: 'lower', bar: 0 }),
    ];
  } finally {
    await server.stop();
  }
}

/** A short load (--seconds) means a trial run: then a tenth of the kills. */
async function kills({ seconds, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const server = await startPostgres({ durable: true });
  try {
    const count = seconds === undefined ? KILLS : KILLS / 10;
    const report = await killRepeatedly({
      database: await server.createDatabase(),
      dataFolder: server.folder,
      keys: createOwnerKeys(),
      root: createSimulatedRoot(),
      kills: count,
      requests: REQUESTS_PER_KILL,
    });
    const { cutOff, lost, twice, secretsOnDisk } = report;
    log(`${count} kills cut off ${cutOff} requests: ${lost} lost, ${twice} given twice`);
    if (secretsOnDisk.length > 0) log(`on disk in the clear: ${secretsOnDisk.join(', ')}`);
    const about = { unit: 'requests', better: 'lower' } as const;
    return [
      summarise([count], { metric: 'kills', unit: 'kills', better: 'higher' }),
      summarise([cutOff], { metric: 'kills.cut_off', unit: 'requests', better: 'higher', bar: count }),
      summarise([lost], { ...about, metric: 'kills.lost', bar: 0 }),
      summarise([twice], { ...about, metric: 'kills.given_twice', bar: 0 }),
      summarise([secretsOnDisk.length], { metric: 'kills.secrets_on_disk', unit: 'secrets', better: 'lower', bar: 0 }),
    ];
  } finally {
    await server.stop();
  }
}
