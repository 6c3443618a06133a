// The owner's verbs as processes: keys under a passphrase, licences issued and served, the folder shared through the service.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { chmod, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createDevice, createSimulatedRoot, type SimulatedRoot } from '../../bench/workload/device.js';
import { writeSimulatedPolicy } from '../../bench/workload/service-process.js';
import { readLine } from '../../src/cli/passphrase.js';
import { loadOwnerKeys } from '../../src/owner/owner-keys.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { cli, failure, json, start, until } from '../cli/command-line.js';
import { folder, serverUrl, skipServer } from './databases.js';
import { BUNDLE, clientAt, granted } from './served.js';

const PASSPHRASE = 'correct horse battery';

async function withPassphrase<T>(passphrase: string | undefined, work: () => Promise<T>, fresh?: string): Promise<T> {
  const { env } = process;
  if (passphrase !== undefined) env.DISTILLOCK_PASSPHRASE = passphrase;
  if (fresh !== undefined) env.DISTILLOCK_NEW_PASSPHRASE = fresh;
  try {
    return await work();
  } finally {
    delete env.DISTILLOCK_PASSPHRASE;
    delete env.DISTILLOCK_NEW_PASSPHRASE;
  }
}

test('keys: encrypted at rest, opened by their passphrase, rotated, private', async () => {
  const dir = folder();
  const file = join(dir, 't.keys');
  assert.equal((await failure('keys', 'init', '--keys', file)).code, 'passphrase-missing');
  const short = await withPassphrase('short', () => failure('keys', 'init', '--keys', file));
  assert.equal(short.code, 'passphrase');
  const made = await withPassphrase(PASSPHRASE, () => json('keys', 'init', '--keys', file));
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const keys = await loadOwnerKeys(file, async () => PASSPHRASE);
  const text = await readFile(file, 'utf8');
  for (const secret of [keys.signingSecret, keys.bundleKey, keys.lockSeed]) {
    assert.ok(!text.includes(encodeBase64url(secret)) && !text.includes(Buffer.from(secret).toString('base64')));
  }
  assert.equal(JSON.parse(await readFile(made.publicKey, 'utf8')).kid, made.keyId);
  await assert.rejects(loadOwnerKeys(file), { code: 'passphrase-missing' });
  await assert.rejects(
    loadOwnerKeys(file, async () => 'wrong horse battery'),
    { code: 'passphrase-wrong' },
  );
  const rotated = await withPassphrase(PASSPHRASE, () => json('keys', 'rotate', '--keys', file), 'new horse battery');
  assert.equal(rotated.wasEncrypted, true);
  assert.deepEqual(await loadOwnerKeys(file, async () => 'new horse battery'), keys);
  await assert.rejects(
    loadOwnerKeys(file, async () => PASSPHRASE),
    { code: 'passphrase-wrong' },
  );
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  await chmod(file, 0o640);
  await assert.rejects(
    loadOwnerKeys(file, async () => PASSPHRASE),
    { code: 'key-file-mode', message: /chmod 600/ },
  );
});

test('a passphrase is read without echo: Return ends it, Backspace takes back, Ctrl-C gives up', async () => {
  const input = new EventEmitter();
  const line = readLine(input);
  for (const chunk of ['abd', '\u007f', 'c', '€x\b\r']) input.emit('data', chunk);
  assert.equal(await line, 'abc€');
  const stopped = readLine(input);
  input.emit('data', 'ab\u0003');
  await assert.rejects(stopped, { code: 'interrupted' });
  assert.equal(input.listenerCount('data'), 0);
});

test('wrong use of serve and issue is refused before anything is opened', async () => {
  const dir = folder();
  const serve = ['licence', 'serve', '--keys', join(dir, 'none'), '--policy', join(dir, 'none.yaml')];
  assert.equal((await failure(...serve, '--listen', '0.0.0.0:0')).code, 'usage');
  assert.equal((await failure(...serve, '--listen', 'nowhere')).code, 'usage');
  assert.equal((await failure(...serve, '--tls_cert', 'x')).code, 'usage');
  assert.equal((await failure(...serve)).code, 'key-file');
  const issue = ['licence', 'issue', '--database', join(dir, 'db'), '--budget_tokens', '5'];
  assert.equal((await failure(...issue)).code, 'usage');
  assert.equal((await failure(...issue, '--bundle_id', BUNDLE, '--max_devices', '2')).code, 'usage');
  assert.equal((await failure(...issue, '--bundle_id', BUNDLE, '--temperature', '2:1')).code, 'usage');
  assert.equal((await failure(...issue, '--bundle', join(dir, 'none'))).code, 'file-missing');
});

/** The service as a process; resolves once it is ready. */
async function served(dir: string, database: string, root: SimulatedRoot) {
  await writeSimulatedPolicy(join(dir, 'policy.yaml'), root);
  const keys = join(dir, 't.keys');
  const args = ['--listen', '127.0.0.1:0', '--keys', keys, '--database', database, '--json'];
  const service = start(dir, 'licence', 'serve', ...args, '--policy', 'policy.yaml');
  const url = await until('the ready line', () => /"event":"ready","url":"([^"]+)"/.exec(service.output())?.[1]);
  return { ...service, url };
}

async function tour(t: TestContext, database: string, dir: string): Promise<void> {
  process.env.DISTILLOCK_PASSPHRASE = PASSPHRASE;
  t.after(() => delete process.env.DISTILLOCK_PASSPHRASE);
  await json('keys', 'init', '--keys', join(dir, 't.keys'));
  const keys = await loadOwnerKeys(join(dir, 't.keys'), async () => PASSPHRASE);
  const root = createSimulatedRoot();
  const service = await served(dir, database, root);
  t.after(() => service.child.kill('SIGKILL'));
  const at = ['--database', database] as const;
  const terms = ['--bundle_id', BUNDLE, '--budget_tokens', '1_000', '--lease_tokens', '100', '--label', 'alice'];
  const issued = await json('licence', 'issue', ...at, ...terms, '--temperature', '0.5:2');
  assert.match(issued.activationCode, /^([0-9a-f]{4}-){7}[0-9a-f]{4}$/);
  const { licenceId, temperature } = issued.licence;
  assert.deepEqual(temperature, { min: 0.5, max: 2 });
  const device = await createDevice({ root, bundleId: BUNDLE, ownerKey: keys.signingKey });
  const { licence } = await granted(clientAt(service.url), device, issued.activationCode);
  assert.equal(licence.licenceId, licenceId);
  const list = await cli('licence', 'list', ...at);
  assert.match(list.out, new RegExp(`${licenceId} +alice +${BUNDLE.slice(0, 12)} +open +1,000 +0 +1/1`));
  const shown = await cli('licence', 'show', licenceId, ...at);
  assert.match(shown.out, /SIMULATED/);
  assert.match(shown.out, /granted/);
  assert.equal((await json('licence', 'revoke', licenceId, '--reason', 'gone', ...at)).licence.state, 'revoked');
  assert.equal((await failure('licence', 'show', 'nobody', ...at)).code, 'licence-unknown');
  const audit = await json('licence', 'audit', ...at);
  const events = audit.entries.map(({ event }: { event: string }) => event);
  assert.deepEqual(events, ['licence-issued', 'granted', 'licence-revoked']);
  assert.ok(!service.output().includes(issued.activationCode));
  service.child.kill('SIGTERM');
  assert.equal(await service.ended, 0, service.output());
  const last = JSON.parse(service.output().trimEnd().split('\n').at(-1)!);
  assert.deepEqual(last.audit, audit.head);
  assert.equal(last.requests, 2);
  assert.deepEqual((await json('licence', 'audit', ...at)).head, audit.head, 'and without the service');
}

test('issue, grant, list, show, revoke, audit while the service has the folder (PGlite)', async (t) => {
  const dir = folder();
  await tour(t, join(dir, 'licences'), dir);
});

test('the same beside a service on a server (PostgreSQL)', { skip: skipServer() }, async (t) => {
  await tour(t, await serverUrl(), folder());
});
