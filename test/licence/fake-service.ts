// A licence service in this process for tests of the device: real evidence checks, grants and signatures, state in memory, and a place
// to put faults between it and the device. The real one is tested under test/service. Not a test itself.
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { parseSimulated, verifySimulated } from '../../src/attest/evidence/simulated.js';
import { verifyLeaseRequest } from '../../src/attest/lease-request.js';
import { appraise } from '../../src/attest/policy/appraise.js';
import { simulatedPolicy } from '../../src/attest/policy/policy.js';
import { verifyReceipt } from '../../src/attest/receipt.js';
import type { AppraisedEvidence } from '../../src/attest/verified.js';
import { parseServiceAddress } from '../../src/edge/licence/address.js';
import { EgressLedger } from '../../src/edge/licence/ledger.js';
import { LicenceService, type ServiceOptions } from '../../src/edge/licence/service.js';
import { grantLicence } from '../../src/owner/grant.js';
import { signWithOwnerKey } from '../../src/owner/sign.js';
import { decodeBase64url, encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import type { Licence } from '../../src/trusted/wire/licence.js';
import { type TinyBundle, terms } from '../enclave/licensed-enclave.js';

export interface Reply {
  readonly status: number;
  readonly body: unknown;
}

export interface Exchange {
  readonly path: string;
  // biome-ignore lint/suspicious/noExplicitAny: a request's JSON, which each test knows.
  readonly body: any;
  /** What the honest service answers. */
  honest(): Promise<Reply>;
  readonly response: ServerResponse;
}

export interface FakeService {
  readonly url: string;
  readonly code: string;
  /** Paths asked for, in order. */
  readonly asked: string[];
  /** Closed by a receipt. */
  readonly closed: Set<string>;
  /** Sits between the device and the honest answer; null: the answer goes out as it is. A handler that returns null has answered itself. */
  fault: ((exchange: Exchange) => Promise<Reply | null>) | null;
}

const refused = (status: number, code: string): Reply => ({
  status,
  body: { error: { code, message: `refused: ${code}` } },
});

/** One licence with one activation code for one device. */
export async function startFakeService(
  t: TestContext,
  bundle: Pick<TinyBundle, 'bundleId' | 'keys'>,
  root: () => Uint8Array,
  changes: Parameters<typeof terms>[0] = {},
): Promise<FakeService> {
  const code = 'CODE-1';
  const nonces = new Set<string>();
  const grants = new Map<string, Reply>();
  const leases = new Map<string, string>();
  let licence: Licence | null = null;
  let signingKey: Uint8Array | null = null;
  let leased = 0;

  // biome-ignore lint/suspicious/noExplicitAny: checked by the calls it is given to.
  const routes: Readonly<Record<string, (body: any) => Promise<Reply>>> = {
    '/v1/challenges': async ({ bundleId }) => {
      if (bundleId !== bundle.bundleId) return refused(404, 'bundle-unknown');
      const nonce = encodeBase64url(randomBytes(32));
      nonces.add(nonce);
      return { status: 200, body: { nonce, expires: Math.floor(Date.now() / 1000) + 300 } };
    },
    '/v1/grants': async ({ nonce, evidence, activationCode }) => {
      const earlier = grants.get(`${nonce} ${evidence}`);
      if (earlier !== undefined) return earlier;
      if (!nonces.delete(nonce)) return refused(404, 'challenge-unknown');
      if (activationCode !== code) return refused(403, 'activation-code');
      if (licence !== null)
        return refused(403, service.closed.has(licence.licenceId) ? 'licence-closed' : 'devices-exhausted');
      let appraised: AppraisedEvidence;
      try {
        const parsed = parseSimulated(decodeBase64url(evidence));
        const verified = verifySimulated(parsed, root(), decodeBase64url(nonce));
        appraised = appraise(verified, simulatedPolicy(bundle.bundleId, root()), Math.floor(Date.now() / 1000));
      } catch {
        return refused(403, 'evidence-rejected');
      }
      const granted = await grantLicence({ keys: bundle.keys, evidence: appraised, terms: terms(changes) });
      licence = granted.licence;
      signingKey = appraised.claims.signingKey;
      const reply = { status: 200, body: { grant: encodeBase64url(granted.grant), licence } };
      grants.set(`${nonce} ${evidence}`, reply);
      return reply;
    },
    '/v1/leases': async ({ request }) => {
      if (licence === null || signingKey === null) return refused(404, 'device-unknown');
      if (service.closed.has(licence.licenceId)) return refused(403, 'licence-closed');
      const { licenceId, enclaveKeyId, nonce } = verifyLeaseRequest(request, signingKey);
      if (licenceId !== licence.licenceId) return refused(404, 'device-unknown');
      const earlier = leases.get(nonce);
      if (earlier !== undefined) return { status: 200, body: { lease: earlier } };
      const tokens = Math.min(licence.leaseTokens, licence.budgetTokens - leased);
      if (tokens < 1) return refused(403, 'budget-exhausted');
      leased += tokens;
      const payload = encodeCanonicalJson({ licenceId, enclaveKeyId, nonce, tokens });
      const lease = await signWithOwnerKey('lease', payload, bundle.keys);
      leases.set(nonce, lease);
      return { status: 200, body: { lease } };
    },
    '/v1/receipts': async ({ receipt }) => {
      if (signingKey === null) return refused(404, 'device-unknown');
      const { licences } = verifyReceipt(Buffer.from(receipt), signingKey);
      for (const { licenceId } of licences) service.closed.add(licenceId);
      return { status: 200, body: { licences: licences.map(({ licenceId }) => ({ licenceId, state: 'closed' })) } };
    },
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const path = request.url ?? '';
    const body = JSON.parse(Buffer.concat(chunks).toString());
    service.asked.push(path);
    const honest = async (): Promise<Reply> => routes[path]?.(body) ?? refused(404, 'not-found');
    const reply = service.fault === null ? await honest() : await service.fault({ path, body, honest, response });
    if (reply === null) return;
    response.writeHead(reply.status, { 'content-type': 'application/json' }).end(JSON.stringify(reply.body));
  }
  const server = createServer((request, response) => {
    answer(request, response).catch((error: Error) => {
      response.writeHead(500).end(JSON.stringify({ error: { code: 'internal', message: error.message } }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const service: FakeService = { url, code, asked: [], closed: new Set(), fault: null };
  return service;
}

/** The device's client for it; retries hardly wait. */
export function clientOf(url: string, options: Partial<ServiceOptions> = {}): LicenceService {
  return new LicenceService({
    address: parseServiceAddress(url, { ca: null, insecureHttp: false }),
    ledger: new EgressLedger(),
    timeoutMs: 10_000,
    retryDelaysMs: [1, 1],
    ...options,
  });
}
