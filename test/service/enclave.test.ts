// The service and a real enclave process: grants over HTTP, somebody in the middle, other clocks.
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createDevice } from '../../bench/workload/device.js';
import { simulatedPolicy } from '../../src/attest/policy/policy.js';
import type { EnclaveClient } from '../../src/edge/enclave/client.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { appraiserOf } from '../../src/owner/service/appraiser.js';
import { createHttpApp } from '../../src/owner/service/http.js';
import { issueLicence, type LicenceOrder } from '../../src/owner/service/licences.js';
import { createLicenceService } from '../../src/owner/service/service.js';
import { openDatabase } from '../../src/owner/store/database.js';
import { decodeBase64url, encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { lockTiny, start } from '../enclave/licensed-enclave.js';
import { type Client, clientAt, nowSeconds, order, refused } from './served.js';

type Json = Record<string, unknown>;
interface Middle {
  /** Changes a request's or a reply's body on its way. */
  request?: (path: string, body: Json) => Json;
  reply?: (path: string, body: Json) => Json;
}

async function conversation(t: TestContext) {
  const bundle = await lockTiny(t);
  const enclave = await start(t, bundle);
  const database = await openDatabase(join(bundle.folder, 'licences'));
  t.after(() => database.close());
  const clock = { skew: 0 };
  const now = (): number => nowSeconds() + clock.skew;
  const appraiser = appraiserOf({
    policy: simulatedPolicy(bundle.bundleId, enclave.process.simulatedRoot),
    collateral: {},
  });
  const service = createLicenceService({ database, keys: [bundle.keys], appraiser, now });
  const app = createHttpApp({ service });
  const middle: Middle = {};
  const proxy = createServer(async (incoming, outgoing) => {
    const path = incoming.url ?? '';
    const body = JSON.parse(await textOf(incoming)) as Json;
    const sent = JSON.stringify(middle.request?.(path, body) ?? body);
    const reply = await app.request(path, { method: 'POST', body: sent });
    const answer = (await reply.json()) as Json;
    outgoing.writeHead(reply.status, { 'content-type': 'application/json' });
    outgoing.end(JSON.stringify(reply.ok ? (middle.reply?.(path, answer) ?? answer) : answer));
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  const client = clientAt(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
  const issue = (changes: Partial<LicenceOrder> = {}) =>
    issueLicence(database, order({ bundleId: bundle.bundleId, ...changes }), nowSeconds());
  return { bundle, enclave: enclave.client, process: enclave.process, client, clock, middle, issue };
}

async function textOf(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** Attests over a fresh challenge and asks for the grant. */
async function ask(client: Client, enclave: EnclaveClient, bundleId: string, activationCode: string) {
  const nonce = await client.challenge(bundleId);
  const evidence = await enclave.attest(nonce);
  return { nonce, evidence, reply: await client.grant(nonce, evidence, activationCode) };
}

const grantOf = (body: Json): Uint8Array => decodeBase64url(body.grant as string);
const flip = (text: unknown, at: number): string => {
  const bytes = decodeBase64url(text as string);
  bytes[at < 0 ? bytes.length + at : at]! ^= 1;
  return encodeBase64url(bytes);
};

test('an enclave unlocks with a grant from the service, once, and nobody in the middle changes anything', async (t) => {
  const { bundle, enclave, process, client, middle, issue } = await conversation(t);
  const { bundleId } = bundle;
  const { activationCode } = await issue({ budgetTokens: 123 });

  // Altered on the way in: evidence, nonce, code; then another enclave's keys under the real quote.
  middle.request = (path, body) => (path === '/v1/grants' ? { ...body, evidence: flip(body.evidence, -10) } : body);
  refused((await ask(client, enclave, bundleId, activationCode)).reply, 403, 'evidence-rejected', 'signature');
  middle.request = (path, body) => (path === '/v1/grants' ? { ...body, evidence: flip(body.evidence, 20) } : body);
  refused((await ask(client, enclave, bundleId, activationCode)).reply, 403, 'evidence-rejected', 'report-data');
  middle.request = (path, body) => (path === '/v1/grants' ? { ...body, nonce: flip(body.nonce, 0) } : body);
  refused((await ask(client, enclave, bundleId, activationCode)).reply, 404, 'challenge-unknown');
  // A challenge swapped on the way out: the evidence is over another nonce than the service knows.
  middle.request = (_path, body) => body;
  middle.reply = (path, body) => (path === '/v1/challenges' ? { ...body, nonce: flip(body.nonce, 0) } : body);
  refused((await ask(client, enclave, bundleId, activationCode)).reply, 404, 'challenge-unknown');

  // Altered on the way back: every part of the grant, and the readable terms.
  const damaged: number[] = [0, 5, 40, -1, -40];
  middle.reply = (path, body) => {
    if (path !== '/v1/grants') return body;
    const licence = { ...(body.licence as Json), budgetTokens: 1e9 };
    return { grant: flip(body.grant, damaged[0] ?? 0), licence };
  };
  const first = await ask(client, enclave, bundleId, activationCode);
  for (; damaged.length > 0; damaged.shift()) {
    const again = await client.grant(first.nonce, first.evidence, activationCode);
    await assert.rejects(enclave.unlock(grantOf(again.body)), { code: 'grant-unreadable' });
  }
  // A grant for somebody else, as a thief of nonce and code could put in its place.
  const stranger = createOwnerKeys();
  const mallory = await createDevice({ root: stranger, bundleId, ownerKey: bundle.keys.signingKey });
  await assert.rejects(mallory.open(grantOf(first.reply.body)));

  middle.reply = (path, body) => (path === '/v1/grants' ? { ...body, licence: { budgetTokens: 1e9 } } : body);
  const honest = await client.grant(first.nonce, first.evidence, activationCode);
  assert.equal(honest.body.licence.budgetTokens, 1e9, 'what a reader is shown may be a lie');
  const status = await enclave.unlock(grantOf(honest.body));
  assert.equal(status.licence?.budgetTokens, 123, 'what the enclave obeys is signed');
  await assert.rejects(enclave.unlock(grantOf(honest.body)), { code: 'licence-replayed' });
  middle.reply = (_path, body) => body;
  refused((await ask(client, enclave, bundleId, activationCode)).reply, 409, 'licence-used');

  // The receipt closes the licence; an altered one does not.
  const receipt = Buffer.from(await enclave.destroy()).toString('utf8');
  const [header, payload, signature] = receipt.split('.') as [string, string, string];
  refused(
    await client.post('/v1/receipts', { receipt: `${header}.${payload}.${flip(signature, 3)}` }),
    403,
    'signature',
  );
  assert.equal((await client.post('/v1/receipts', { receipt })).body.licences[0].state, 'closed');
  refused(await client.grant(first.nonce, first.evidence, activationCode), 403, 'licence-closed');
  assert.ok(process.simulatedRoot.length === 32);
});

test('clocks: ten minutes apart either way unlocks, further is refused by the enclave', async (t) => {
  const { bundle, enclave, client, clock, issue } = await conversation(t);
  for (const skew of [-600, 600]) {
    clock.skew = skew;
    const { activationCode } = await issue();
    const { reply } = await ask(client, enclave, bundle.bundleId, activationCode);
    assert.equal((await enclave.unlock(grantOf(reply.body))).state, 'unlocked', `service ${skew} s off`);
  }
  clock.skew = 700;
  const { activationCode } = await issue();
  const { reply } = await ask(client, enclave, bundle.bundleId, activationCode);
  await assert.rejects(enclave.unlock(grantOf(reply.body)), { code: 'licence-not-yet-valid' });
});
