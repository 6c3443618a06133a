// Kills a licence service with SIGKILL in the middle of grants and leases, starts it again, asks again, and counts what went wrong.
// Used by the test (10 kills) and the licence bench (50).
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type IssuedLicence, issueLicence, type LicenceOrder } from '../../src/owner/service/licences.js';
import { linkAudit, verifyAudit } from '../../src/owner/store/audit.js';
import { type Database, openDatabase } from '../../src/owner/store/database.js';
import { listLicences } from '../../src/owner/store/licence-records.js';
import { BUNDLE, createDevice, type Device } from './device.js';
import { createServiceClient, grantBody, type ServiceClient, type ServiceReply } from './service-client.js';
import { type ServiceProcess, type ServiceSetup, startService } from './service-process.js';

export interface KillOptions extends ServiceSetup {
  readonly kills: number;
  /** Requests under way at each kill. */
  readonly requests: number;
  /** Where the database's files lie; asked for when all is over. */
  readonly dataFolder: string;
}

export interface KillReport {
  /** Requests that got no answer because the service was killed. */
  readonly cutOff: number;
  /** Grants or leases that a retry did not get. */
  readonly lost: number;
  /** Answers that a retry got otherwise than before, seats or leased tokens beyond one each. */
  readonly twice: number;
  /** Entries of the audit log; its chain holds, or `killRepeatedly` throws. */
  readonly auditEntries: number;
  /** Which secrets lie in the database's files. */
  readonly secretsOnDisk: readonly string[];
}

const TOKENS = 10;
/** Activation codes that are looked for on disk. */
const CODES = 10;

interface Question {
  readonly grant: string;
  readonly lease: string;
  /** Asks for more than the licence has. */
  readonly more: string;
}

/** One licence, one device, one lease of the whole budget for each request. Throws when the audit chain does not hold. */
export async function killRepeatedly(options: KillOptions): Promise<KillReport> {
  const { kills, requests, database: location } = options;
  const licences = await withDatabase(location, (database) => issueMany(database, kills * requests));
  const counts = { cutOff: 0, lost: 0, twice: 0 };
  let service = await startService(options);
  let client = createServiceClient(service.url);
  for (let round = 0; round < kills; round++) {
    const mine = licences.slice(round * requests, (round + 1) * requests);
    const questions = await Promise.all(mine.map((licence) => question(options, client, licence)));
    // Even rounds are killed among grants, odd ones among leases; each round a reply later, the first before any.
    const path = round % 2 === 0 ? '/v1/grants' : '/v1/leases';
    const bodyOf = (each: Question): string => (round % 2 === 0 ? each.grant : each.lease);
    if (round % 2 === 1) for (const each of questions) await client.post('/v1/grants', each.grant);
    const bodies = questions.map(bodyOf);
    const before = await killAfter((round >> 1) % (requests / 2), service, client, path, bodies);
    counts.cutOff += before.filter((reply) => reply === null).length;
    service = await startService(options);
    client = createServiceClient(service.url);
    for (const [i, each] of questions.entries()) {
      const again = await client.post(path, bodies[i]!);
      const earlier = before[i] ?? null;
      if (again.status !== 200) counts.lost += 1;
      if (earlier !== null && earlier.text !== again.text) counts.twice += 1;
      if ((await client.post('/v1/leases', each.lease)).status !== 200) counts.lost += 1;
      if ((await client.post('/v1/leases', each.more)).status === 200) counts.twice += 1;
    }
  }
  client.close();
  await service.kill();
  return withDatabase(location, async (database) => {
    for (const { devices, leasedTokens } of await listLicences(database)) {
      if (devices > 1 || leasedTokens > TOKENS) counts.twice += 1;
      if (devices < 1 || leasedTokens < TOKENS) counts.lost += 1;
    }
    await linkAudit(database);
    const { position } = await verifyAudit(database);
    await database.query('CHECKPOINT');
    const secretsOnDisk = await findSecrets(options, licences);
    return { ...counts, auditEntries: position, secretsOnDisk };
  });
}

async function issueMany(database: Database, count: number): Promise<readonly IssuedLicence[]> {
  const now = Math.floor(Date.now() / 1000);
  const order: LicenceOrder = {
    bundleId: BUNDLE,
    label: '',
    budgetTokens: TOKENS,
    leaseTokens: TOKENS,
    topK: 8,
    precision: 'float32',
    temperature: { min: 0.5, max: 4 },
    expires: now + 86_400,
    maxDevices: 1,
  };
  return Promise.all(Array.from({ length: count }, () => issueLicence(database, order, now)));
}

async function question(
  { root, keys }: KillOptions,
  client: ServiceClient,
  { licence, activationCode }: IssuedLicence,
): Promise<Question> {
  const device: Device = await createDevice({ root, bundleId: BUNDLE, ownerKey: keys.signingKey });
  const nonce = await client.challenge(BUNDLE);
  const lease = (): string => JSON.stringify({ request: device.leaseRequest(licence.licenceId) });
  return { grant: grantBody(nonce, device.evidence(nonce), activationCode), lease: lease(), more: lease() };
}

/** Sends all at once and kills the service when `replies` have come; the answers, null where there was none. */
async function killAfter(
  replies: number,
  service: ServiceProcess,
  client: ServiceClient,
  path: string,
  bodies: readonly string[],
): Promise<readonly (ServiceReply | null)[]> {
  const answers: (ServiceReply | null)[] = bodies.map(() => null);
  let killed: Promise<void> | null = null;
  const kill = (): void => {
    killed ??= service.kill();
  };
  const sent = bodies.map(async (body, i) => {
    answers[i] = await client.post(path, body).catch(() => null);
    if (answers.filter((answer) => answer !== null).length >= replies) kill();
  });
  if (replies === 0) setTimeout(kill, 15);
  await Promise.all(sent);
  client.close();
  kill();
  await killed;
  return answers;
}

async function findSecrets({ keys, dataFolder }: KillOptions, licences: readonly IssuedLicence[]): Promise<string[]> {
  const forms = (bytes: Uint8Array): Buffer[] => {
    const buffer = Buffer.from(bytes);
    return [buffer, ...(['hex', 'base64', 'base64url'] as const).map((form) => Buffer.from(buffer.toString(form)))];
  };
  const codes = licences.slice(0, CODES).flatMap(({ activationCode }) => {
    return [Buffer.from(activationCode), ...forms(Buffer.from(activationCode.replaceAll('-', ''), 'hex'))];
  });
  const needles: Readonly<Record<string, readonly Buffer[]>> = {
    'signing key': forms(keys.signingSecret),
    'bundle key': forms(keys.bundleKey),
    'lock seed': forms(keys.lockSeed),
    'activation code': codes,
  };
  const found = new Set<string>();
  let control = false;
  for (const entry of await readdir(dataFolder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const bytes = await readFile(join(entry.parentPath, entry.name));
    control ||= bytes.includes(licences[0]!.licence.licenceId);
    for (const [name, forms] of Object.entries(needles))
      if (forms.some((form) => bytes.includes(form))) found.add(name);
  }
  // A search that does not find what is there has looked in the wrong place.
  if (!control) found.add('nothing was searched: the licences are not there either');
  return [...found];
}

async function withDatabase<T>(location: string, work: (database: Database) => Promise<T>): Promise<T> {
  const database = await openDatabase(location);
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}
