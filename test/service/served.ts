// A licence service for tests: keys, one licence, a client that speaks its JSON. Not a test itself.
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import {
  BUNDLE,
  createDevice,
  createSimulatedRoot,
  type Device,
  type SimulatedRoot,
} from '../../bench/workload/device.js';
import { simulatedPolicy } from '../../src/attest/policy/policy.js';
import { createOwnerKeys, type OwnerKeys } from '../../src/owner/owner-keys.js';
import { type Appraiser, appraiserOf } from '../../src/owner/service/appraiser.js';
import { createHttpApp } from '../../src/owner/service/http.js';
import { type IssuedLicence, issueLicence, type LicenceOrder } from '../../src/owner/service/licences.js';
import { type RunOptions, runLicenceService } from '../../src/owner/service/run.js';
import { createLicenceService } from '../../src/owner/service/service.js';
import type { Database } from '../../src/owner/store/database.js';
import { decodeBase64url, encodeBase64url } from '../../src/trusted/wire/base64url.js';
import type { Licence } from '../../src/trusted/wire/licence.js';

export { BUNDLE };
export const OTHER_BUNDLE: string = 'ef'.repeat(32);

/** Any code of the SIMULATED platform, for either bundle. */
export function appraiserFor(root: { readonly signingKey: Uint8Array }): Appraiser {
  const policy = { ...simulatedPolicy(BUNDLE, root.signingKey), bundles: [BUNDLE, OTHER_BUNDLE] };
  return appraiserOf({ policy, collateral: {} });
}

export interface Reply {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for.
  readonly body: any;
}

export interface Client {
  post(path: string, body: unknown): Promise<Reply>;
  challenge(bundleId?: string): Promise<Uint8Array>;
  grant(nonce: Uint8Array, evidence: Uint8Array, activationCode: string): Promise<Reply>;
}

/** A client of anything that answers requests. */
export function clientOf(fetcher: (path: string, init?: RequestInit) => Promise<Response> | Response): Client {
  const post: Client['post'] = async (path, body) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetcher(path, { method: 'POST', body: text });
    return { status: response.status, body: await response.json() };
  };
  return {
    post,
    async challenge(bundleId = BUNDLE) {
      const { status, body } = await post('/v1/challenges', { bundleId });
      assert.equal(status, 200, JSON.stringify(body));
      return decodeBase64url(body.nonce);
    },
    grant: (nonce, evidence, activationCode) =>
      post('/v1/grants', { nonce: encodeBase64url(nonce), evidence: encodeBase64url(evidence), activationCode }),
  };
}

export function clientAt(url: string): Client {
  return clientOf((path, init) => fetch(`${url}${path}`, init));
}

export interface Parties {
  readonly keys: OwnerKeys;
  readonly root: SimulatedRoot;
  device(changes?: { readonly bundleId?: string; readonly ownerKey?: Uint8Array }): Promise<Device>;
}

export function createParties(): Parties {
  const keys = createOwnerKeys();
  const root = createSimulatedRoot();
  return {
    keys,
    root,
    device: (changes = {}) => createDevice({ root, bundleId: BUNDLE, ownerKey: keys.signingKey, ...changes }),
  };
}

export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

export function order(changes: Partial<LicenceOrder> = {}): LicenceOrder {
  return {
    bundleId: BUNDLE,
    label: 'test',
    budgetTokens: 1000,
    leaseTokens: 0,
    topK: 8,
    precision: 'float32',
    temperature: { min: 0.5, max: 4 },
    expires: nowSeconds() + 86_400,
    maxDevices: 1,
    ...changes,
  };
}

/** The service without a socket, with a clock that tests turn. */
export function inProcess(
  database: Database,
  parties: Parties = createParties(),
): Parties & {
  readonly client: Client;
  readonly clock: { skew: number };
  issue(changes?: Partial<LicenceOrder>): Promise<IssuedLicence>;
  readonly failures: unknown[];
} {
  const clock = { skew: 0 };
  const failures: unknown[] = [];
  const now = (): number => nowSeconds() + clock.skew;
  const appraiser = appraiserFor(parties.root);
  const service = createLicenceService({ database, keys: [parties.keys], appraiser, now });
  const app = createHttpApp({ service, onFailure: (error) => failures.push(error) });
  const client = clientOf((path, init) => app.request(path, init));
  return { ...parties, client, clock, failures, issue: (changes) => issueLicence(database, order(changes), now()) };
}

/** The service on a port of this machine; the database is closed with it. */
export async function onPort(
  t: TestContext,
  database: Database,
  parties: Parties,
  options: Partial<RunOptions> = {},
): Promise<{ readonly url: string; readonly client: Client; stop(): Promise<unknown> }> {
  const appraiser = appraiserFor(parties.root);
  const keys = [parties.keys];
  const running = await runLicenceService({ database, keys, appraiser, host: '127.0.0.1', port: 0, ...options });
  let stopped: Promise<unknown> | null = null;
  const stop = (): Promise<unknown> => {
    stopped ??= running.stop(1000);
    return stopped;
  };
  t.after(stop);
  return { url: running.url, client: clientAt(running.url), stop };
}

/** Attests and asks for a grant; it must be given. */
export async function granted(
  client: Client,
  device: Device,
  activationCode: string,
): Promise<{
  readonly grant: Uint8Array;
  readonly licence: Licence;
  readonly nonce: Uint8Array;
  readonly evidence: Uint8Array;
}> {
  const nonce = await client.challenge(device.claims.bundleId);
  const evidence = device.evidence(nonce);
  const { status, body } = await client.grant(nonce, evidence, activationCode);
  assert.equal(status, 200, JSON.stringify(body));
  return { grant: decodeBase64url(body.grant), licence: body.licence, nonce, evidence };
}

export function refused({ status, body }: Reply, wanted: number, code: string, reason?: string): void {
  assert.equal(body.error?.code, code, JSON.stringify(body));
  assert.equal(status, wanted);
  assert.equal(body.error.reason, reason);
  assert.deepEqual(Object.keys(body), ['error']);
}
