// The HTTP side: sizes, slow clients, wrong requests, TLS, a database that is gone; and an end that loses no request.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { SimulatedRoot } from '../../bench/workload/device.js';
import type { Appraiser } from '../../src/owner/service/appraiser.js';
import { MAX_BODY_BYTES } from '../../src/owner/service/http.js';
import { issueLicence } from '../../src/owner/service/licences.js';
import type { RunOptions } from '../../src/owner/service/run.js';
import type { Database } from '../../src/owner/store/database.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { folder } from './databases.js';
import {
  appraiserFor,
  BUNDLE,
  clientAt,
  createParties,
  granted,
  nowSeconds,
  onPort,
  order,
  refused,
} from './served.js';

/** Knows one bundle and no licence; enough where no grant is made. */
const stub: Database = {
  kind: 'server',
  query: async () => [],
  transaction: (work) => work(stub),
  close: async () => undefined,
};

function broken(error: Error): Database {
  const fail = (): Promise<never> => Promise.reject(error);
  return { ...stub, query: fail, transaction: fail };
}

const serve = (t: TestContext, options: Partial<RunOptions> = {}) => onPort(t, stub, createParties(), options);

test('bodies above the limit are refused, announced or not, and the service goes on', async (t) => {
  const { url, client } = await serve(t);
  const big = `{"bundleId":"${'a'.repeat(MAX_BODY_BYTES)}"}`;
  refused(await client.post('/v1/challenges', big), 413, 'body-too-large');
  const chunks = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let sent = 0; sent <= MAX_BODY_BYTES; sent += 65_536) controller.enqueue(new Uint8Array(65_536));
      controller.close();
    },
  });
  const init = { method: 'POST', body: chunks, duplex: 'half' } as RequestInit;
  assert.equal((await fetch(`${url}/v1/grants`, init)).status, 413);
  assert.deepEqual(await (await fetch(`${url}/v1/healthz`)).json(), { ok: true });
});

test('requests that are none get a code, and no more', async (t) => {
  const logged: object[] = [];
  const { url, client } = await serve(t, { onRequest: (request) => logged.push(request) });
  for (const body of ['', '{', '[]', '{}', '{"bundleId":"x"}', `{"bundleId":"${BUNDLE}","more":1}`]) {
    refused(await client.post('/v1/challenges', body), 400, 'malformed');
  }
  const nonce = encodeBase64url(new Uint8Array(32));
  const fields = { nonce, evidence: 'AAAA', activationCode: 'x' };
  const wrong = [{ nonce: `${nonce.slice(1)}=` }, { nonce: 'AA' }, { evidence: '!' }, { activationCode: 5 }];
  for (const change of wrong) refused(await client.post('/v1/grants', { ...fields, ...change }), 400, 'malformed');
  for (const body of [{ request: 'a.b.c' }, { request: '..' }, { request: 'x' }])
    refused(await client.post('/v1/leases', body), 400, 'malformed');
  refused(await client.post('/v1/nothing/secret', {}), 404, 'not-found');
  refused(await client.post('/v1/healthz', {}), 404, 'not-found');
  assert.equal((await fetch(`${url}/v1/grants`)).status, 404);
  const log = JSON.stringify(logged);
  assert.ok(log.includes('"code":"malformed"') && !log.includes('secret'));
});

test('failures behind the service say nothing of themselves', async (t) => {
  const secret = new Error('password authentication failed at /srv/db');
  const failures: unknown[] = [];
  const onFailure = (error: unknown): unknown => failures.push(error);
  const { client } = await onPort(t, broken(secret), createParties(), { onFailure });
  const { status, body } = await client.post('/v1/challenges', { bundleId: BUNDLE });
  assert.equal(status, 500);
  assert.deepEqual(body, { error: { code: 'internal', message: 'the service failed; try again' } });
  assert.ok(failures.includes(secret), 'the operator is told');
});

test('slow clients are cut off: half a header, half a body, nothing at all', async (t) => {
  const { url } = await serve(t, { requestTimeoutMs: 1_000 });
  const port = Number(new URL(url).port);
  const starts = [
    'POST /v1/challenges HTTP/1.1\r\nhost: x\r\n',
    'POST /v1/challenges HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"bundleId"',
    '',
  ];
  const ends = starts.map(async (start) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.resume();
    const closed = new Promise<number>((resolve) => socket.once('close', () => resolve(performance.now() - began)));
    const began = performance.now();
    socket.write(start);
    // Drops in the bucket keep no connection alive.
    const drip = setInterval(() => start !== '' && socket.write(start.includes('{') ? ' ' : 'x'), 100);
    const late = delay(20_000, null, { ref: false });
    const ms = await Promise.race([closed, late]);
    clearInterval(drip);
    socket.destroy();
    return ms;
  });
  for (const ms of await Promise.all(ends)) assert.ok(ms !== null && ms >= 400, `closed after ${ms} ms`);
  assert.equal((await fetch(`${url}/v1/healthz`)).status, 200);
});

test('TLS with a certificate; one that does not fit its key is refused by name', async (t) => {
  const dir = folder();
  const [key, cert, other] = ['key.pem', 'cert.pem', 'other.pem'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  const make = (file: string, out: string): unknown =>
    execFileSync(
      'openssl',
      [
        ...'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost'.split(' '),
        '-keyout',
        file,
        '-out',
        out,
      ],
      { stdio: 'ignore' },
    );
  make(key, cert);
  make(other, join(dir, 'unused.pem'));
  const tls = { cert: readFileSync(cert), key: readFileSync(key) };
  const { url } = await serve(t, { tls });
  assert.match(url, /^https:/);
  const status = await new Promise((resolve, reject) => {
    const sent = request(`${url}/v1/healthz`, { ca: tls.cert, servername: 'localhost' }, (reply) => {
      reply.resume();
      resolve(reply.statusCode);
    });
    sent.on('error', reject).end();
  });
  assert.equal(status, 200);
  await assert.rejects(fetch(url.replace('https', 'http')), 'plain HTTP is not spoken there');
  await assert.rejects(serve(t, { tls: { ...tls, key: readFileSync(other) } }), { code: 'tls' });
  await assert.rejects(serve(t, { port: Number(new URL(url).port) }), { code: 'listen' });
});

test('stopping lets a request finish, and refuses new ones', async (t) => {
  const { openDatabase } = await import('../../src/owner/store/database.js');
  const database = await openDatabase(join(folder(), 'database'));
  const parties = createParties();
  const { activationCode } = await issueLicence(database, order(), nowSeconds());
  const { appraiser, entered } = slowAppraiser(parties.root);
  const service = await onPort(t, database, parties, { appraiser });
  const pending = granted(service.client, await parties.device(), activationCode);
  await entered;
  const stopped = service.stop();
  assert.equal((await pending).licence.bundleId, BUNDLE);
  await stopped;
  await assert.rejects(fetch(`${service.url}/v1/healthz`));
  await assert.rejects(clientAt(service.url).challenge());
});

/** Appraisal that takes half a second; `entered` tells that it has begun. */
function slowAppraiser(root: SimulatedRoot): { readonly appraiser: Appraiser; readonly entered: Promise<void> } {
  let enter: () => void;
  const entered = new Promise<void>((resolve) => {
    enter = resolve;
  });
  return {
    entered,
    async appraiser(evidence, nonce, now) {
      enter();
      await delay(500);
      return appraiserFor(root)(evidence, nonce, now);
    },
  };
}
