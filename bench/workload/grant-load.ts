// Grant requests at a fixed rate against a running service, whatever it answers and when (open loop); and as fast as they are answered.
// Latency counts from when a request was due, so a service that falls behind cannot hide it.
import { setTimeout as delay } from 'node:timers/promises';
import { createActivationCode, hashActivationCode } from '../../src/owner/service/activation-code.js';
import type { Database } from '../../src/owner/store/database.js';
import { insertLicence } from '../../src/owner/store/licence-records.js';
import { BUNDLE, createDevice, type Device } from './device.js';
import { createServiceClient, grantBody } from './service-client.js';
import type { ServiceSetup } from './service-process.js';

export interface LoadReport {
  readonly seconds: number;
  /** Milliseconds of each grant that was given, sorted. */
  readonly latencies: readonly number[];
  /** Requests that were refused, failed or broke. */
  readonly failed: number;
}

/** Devices are costly to make; each renews with a licence of its own, many times. */
const DEVICES = 500;
const PER_TRANSACTION = 500;
/** Of the loop that goes as fast as it can. */
export const CONCURRENCY = 32;

/** Licences, devices, challenges and evidence, all made before the clock runs: bodies of grant requests. */
export async function prepareGrants(
  database: Database,
  { root, keys }: ServiceSetup,
  url: string,
  count: number,
): Promise<readonly string[]> {
  const codes = await issueQuickly(database, count);
  const devices: Device[] = [];
  for (let i = 0; i < Math.min(count, DEVICES); i++)
    devices.push(await createDevice({ root, bundleId: BUNDLE, ownerKey: keys.signingKey }));
  const client = createServiceClient(url);
  const bodies: string[] = [];
  for (let at = 0; at < count; at += CONCURRENCY) {
    const nonces = codes.slice(at, at + CONCURRENCY).map(() => client.challenge(BUNDLE));
    for (const [i, nonce] of (await Promise.all(nonces)).entries()) {
      const device = devices[(at + i) % devices.length]!;
      bodies.push(grantBody(nonce, device.evidence(nonce), codes[at + i]!));
    }
  }
  client.close();
  return bodies;
}

/** Straight into the table, without the audit entries that `licence issue` makes. */
async function issueQuickly(database: Database, count: number): Promise<readonly string[]> {
  const codes = Array.from({ length: count }, createActivationCode);
  const now = Math.floor(Date.now() / 1000);
  const terms = { topK: 64, precision: 'float32', temperature: { min: 0.5, max: 4 }, expires: now + 86_400 } as const;
  const order = {
    ...terms,
    bundleId: BUNDLE,
    label: '',
    budgetTokens: 1e6,
    leaseTokens: 0,
    maxDevices: 1,
    created: now,
  };
  for (let at = 0; at < count; at += PER_TRANSACTION)
    await database.transaction(async (sql) => {
      for (const code of codes.slice(at, at + PER_TRANSACTION)) {
        const hash = hashActivationCode(code);
        await insertLicence(sql, { ...order, licenceId: Buffer.from(hash).toString('base64url') }, hash);
      }
    });
  return codes;
}

/** One request every 1000 / `rate` milliseconds. */
export async function openLoop(url: string, bodies: readonly string[], rate: number): Promise<LoadReport> {
  const client = createServiceClient(url);
  const outcomes: Promise<number | null>[] = [];
  const started = performance.now();
  for (const [i, body] of bodies.entries()) {
    const due = started + (i * 1000) / rate;
    const wait = due - performance.now();
    if (wait > 1) await delay(wait);
    outcomes.push(timed(() => client.post('/v1/grants', body), due));
  }
  return report(started, await Promise.all(outcomes), client);
}

/** The next request as soon as one of 32 is answered. */
export async function closedLoop(url: string, bodies: readonly string[]): Promise<LoadReport> {
  const client = createServiceClient(url);
  const outcomes: (number | null)[] = [];
  const started = performance.now();
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < bodies.length) {
      const body = bodies[next++]!;
      outcomes.push(await timed(() => client.post('/v1/grants', body), performance.now()));
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return report(started, outcomes, client);
}

async function timed(send: () => Promise<{ readonly status: number }>, due: number): Promise<number | null> {
  const status = await send().then(
    (reply) => reply.status,
    () => 0,
  );
  return status === 200 ? performance.now() - due : null;
}

function report(started: number, outcomes: readonly (number | null)[], client: { close(): void }): LoadReport {
  const seconds = (performance.now() - started) / 1000;
  client.close();
  const latencies = outcomes.filter((ms) => ms !== null).sort((a, b) => a - b);
  return { seconds, latencies, failed: outcomes.length - latencies.length };
}

/** Of sorted values. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.POSITIVE_INFINITY;
}
