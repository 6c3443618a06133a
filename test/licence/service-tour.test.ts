// The same story through the licence service, verb by verb, over TLS with a pinned authority: `licence serve` is a process of its own.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { failure, json, lockStories, type Owned, start, until, writeRun } from '../cli/command-line.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { certificateFor } from './test-authority.js';

const VARIABLE = 'DISTILLOCK_ACTIVATION_CODE';

interface Served {
  readonly url: string;
  readonly ca: string;
  readonly database: readonly string[];
}

/** `distillock licence serve` with TLS for `localhost`, on the enclave's root. */
async function serve(
  t: TestContext,
  folder: string,
  { keys }: Owned,
  { bundleId, simulatedRoot }: { readonly bundleId: string; readonly simulatedRoot: string },
): Promise<Served> {
  const { ca, cert, key } = certificateFor('localhost');
  const files = { ca: join(folder, 'ca.pem'), cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
  for (const [name, text] of [
    ['ca', ca],
    ['cert', cert],
    ['key', key],
  ] as const)
    await writeFile(files[name], text);
  const policy = join(folder, 'policy.yaml');
  const simulated = { roots: [simulatedRoot], measurements: 'any' };
  // JSON is YAML.
  await writeFile(policy, JSON.stringify({ version: 1, bundles: [bundleId], simulated }));
  const database = ['--database', join(folder, 'licences')];
  const tls = ['--tls_cert', files.cert, '--tls_key', files.key];
  const words = ['--keys', keys, '--policy', policy, '--listen', '127.0.0.1:0', ...tls, ...database];
  const service = start(process.cwd(), 'licence', 'serve', ...words);
  t.after(async () => {
    service.child.kill('SIGTERM');
    await service.ended;
  });
  const port = await until('the service', () => /ready: https:\/\/127\.0\.0\.1:(\d+)/.exec(service.output())?.[1]);
  return { url: `https://localhost:${port}`, ca: files.ca, database };
}

test('issue, serve, distill with a code, generate with leases, destroy, closed at the service', async (t) => {
  const folder = await temporaryFolder(t);
  const owned = await lockStories(folder, 'teacher');
  const { bundle, publicKey, state } = owned;
  const fresh = await json('enclave', '--bundle', bundle, ...state, '--owner_key', publicKey);
  const { url, ca, database } = await serve(t, folder, owned, fresh);
  const limits = ['--budget_tokens', '100_000', '--lease_tokens', '1_000'];
  const issued = await json('licence', 'issue', '--bundle', bundle, ...limits, ...database);
  const { licenceId } = issued.licence;

  // The certificate must hold: its authority, and its name.
  const enclave = ['enclave', '--bundle', bundle, ...state, '--activation_code', issued.activationCode];
  assert.equal((await failure(...enclave, '--licence_service', url)).code, 'service-certificate');
  const other = join(folder, 'other.pem');
  await writeFile(other, certificateFor('localhost').ca);
  assert.equal(
    (await failure(...enclave, '--licence_service', url, '--service_ca', other)).code,
    'service-certificate',
  );
  const wrongName = url.replace('localhost', '127.0.0.1');
  assert.equal(
    (await failure(...enclave, '--licence_service', wrongName, '--service_ca', ca)).code,
    'service-certificate',
  );
  assert.equal((await failure(...enclave, '--licence_service', url, '--service_ca', bundle)).code, 'not-a-file');
  const relay = { licence_service: url, service_ca: ca };
  const nobody = [...enclave.slice(0, -1), 'AAAA-AAAA-AAAA-AAAA', '--licence_service', url, '--service_ca', ca];
  assert.equal((await failure(...nobody)).code, 'activation-code');

  // A configuration with the service, and the code from the environment: one command from nothing to a student.
  const config = await writeRun(folder, bundle, { ...relay, owner_key: publicKey });
  process.env[VARIABLE] = issued.activationCode;
  t.after(() => delete process.env[VARIABLE]);
  const run = await json('distill', config);
  delete process.env[VARIABLE];
  assert.ok(run.budget.charged > 500 && run.egressBytesAfterUnlock > 0, 'lease requests left the device');
  assert.ok(!(await readFile(run.report, 'utf8')).includes(issued.activationCode));
  // The service is remembered, with its authority: nothing is given here.
  const prompt = ['--prompt', 'Once upon a time', '--max_new_tokens', '5'];
  assert.equal((await json('generate', '--model', bundle, ...state, ...prompt)).tokens, 5);
  const used = (await json('licence', 'show', licenceId, ...database)).licence;
  assert.deepEqual([used.state, used.devices], ['open', 1]);
  assert.ok(used.leasedTokens >= 2_000 && used.leasedTokens <= 100_000, 'each process takes leases of its own');

  const copy = join(folder, 'copy.lock');
  await cp(bundle, copy, { recursive: true });
  const receipt = join(folder, 'receipt');
  const destroyed = await json('destroy', '--bundle', bundle, ...state, '--receipt', receipt, '--yes');
  assert.deepEqual(destroyed.closed, [{ licenceId, state: 'closed' }]);
  const history = await json('licence', 'show', licenceId, ...database);
  assert.equal(history.licence.state, 'closed');
  assert.equal(history.receipts.length, 1);
  const [ledger] = await json('ledger', 'show', ...state);
  const after = ledger.entries.filter((entry: { afterUnlock: boolean }) => entry.afterUnlock);
  assert.deepEqual(
    [...new Set(after.map((entry: { purpose: string }) => entry.purpose))],
    ['lease-request', 'lease', 'receipt'],
  );
  assert.ok(after.every((entry: { host: string }) => entry.host === new URL(url).host));

  // Neither a copy of the bundle nor the code is worth anything now.
  const second = join(folder, 'second');
  const again = ['enclave', '--bundle', copy, '--enclave_state_dir', second, '--owner_key', publicKey];
  const code = ['--licence_service', url, '--service_ca', ca, '--activation_code', issued.activationCode];
  assert.equal((await failure(...again, ...code)).code, 'licence-closed');
  assert.deepEqual(
    (await readdir(bundle)).filter((name) => name.endsWith('.sealed')),
    [],
  );
  assert.ok(!existsSync(join(bundle, 'segments', '00.sealed')));
});
