// The enclave on other platforms than the simulated one, as processes: under a played Gramine, behind a socket, and refused here.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { decodeEvidence } from '../../src/attest/evidence/decode-evidence.js';
import { brandAppraised, brandVerified, type SgxFacts } from '../../src/attest/verified.js';
import { enclaveChoice } from '../../src/edge/enclave/choice.js';
import { EnclaveClient } from '../../src/edge/enclave/client.js';
import { relay } from '../../src/edge/enclave/gramine.js';
import { ENCLAVE_MAIN } from '../../src/edge/enclave/sandbox.js';
import { openLockedTeacher } from '../../src/edge/teacher/locked-teacher.js';
import { grantLicence } from '../../src/owner/grant.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { reportData } from '../../src/trusted/wire/report-data.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { lockTiny, start, type TinyBundle, terms } from './licensed-enclave.js';
import { type FakeManifest, playGramine as play } from './play-gramine.js';

const posix = { skip: process.platform === 'win32' && 'needs a shell and Unix sockets' };
function playGramine(t: TestContext, bundle: TinyBundle, changes: Partial<FakeManifest> = {}): Promise<string> {
  const { folder, bundleDir, keys } = bundle;
  return play(t, folder, { bundleDir, ownerKey: encodeBase64url(keys.signingKey), ...changes });
}
const ids = Int32Array.of(5, 0, 96, 5);

/** What a verifier of SGX quotes would say; here nobody has verified anything. */
const facts = { kind: 'sgx', mrenclave: '0'.repeat(64) } as unknown as SgxFacts;

test(
  'SGX: started under Gramine, attests, unlocks and releases through its port; state outlives it',
  posix,
  async (t) => {
    const bundle = await lockTiny(t);
    const gramineApp = await playGramine(t, bundle);
    const notices: string[] = [];
    const options = { platform: 'sgx', gramineApp, onNotice: (line: string) => void notices.push(line) } as const;
    const { client, process: child } = await start(t, bundle, options);
    assert.equal(child.platform, 'sgx');
    assert.equal(child.simulatedRoot.length, 0);
    assert.ok(!/simulated/i.test(notices.join()), notices.join());

    await assert.rejects(start(t, bundle, options), { code: 'enclave-running' });
    const nonce = new Uint8Array(32).fill(8);
    const { claims, quote } = decodeEvidence(await client.attest(nonce));
    assert.equal(claims.kind, 'sgx');
    assert.deepEqual(Buffer.from(quote.subarray(368, 432)), Buffer.from(reportData(claims, nonce)));
    const evidence = brandAppraised(brandVerified({ claims, platform: facts }));
    const { grant } = await grantLicence({ keys: bundle.keys, evidence, terms: terms() });
    assert.equal((await client.unlock(grant)).state, 'unlocked');
    const session = await client.begin({ topK: 8, temperature: 1 });
    assert.equal((await session.authorise(ids)).length, 4);

    const second = await EnclaveClient.connect(child.socketPath);
    assert.equal((await second.status()).licence?.remainingTokens, 100, 'a second connection, the same enclave');
    await second.close();
    await client.close();
    await child.stop();
    assert.equal(existsSync(child.socketPath), false);
    await assert.rejects(EnclaveClient.connect(child.socketPath), { code: 'enclave-gone' });
    const again = await start(t, bundle, options);
    assert.equal((await again.client.status()).state, 'unlocked', 'sealed under the same enclave key');
  },
);

test('SGX: an enclave that says it is another platform, or names no port, is ended', posix, async (t) => {
  const bundle = await lockTiny(t);
  for (const [changes, code] of [
    [{ says: 'simulated' }, 'enclave-platform'],
    [{ address: '/run/enclave.sock' }, 'enclave-address'],
  ] as const) {
    const gramineApp = await playGramine(t, bundle, changes);
    await assert.rejects(start(t, bundle, { platform: 'sgx', gramineApp }), { code });
  }
});

test('the socket in front of a port passes everything on, also what comes before a close', posix, async (t) => {
  const sent = randomBytes(24 * 2 ** 20);
  const far = createServer(
    { allowHalfOpen: true },
    (socket) => void socket.on('error', () => socket.destroy()).pipe(socket),
  ).listen(0, '127.0.0.1');
  t.after(() => far.close());
  await once(far, 'listening');
  const socketPath = join(await temporaryFolder(t), 'relay.sock');
  const near = await relay(socketPath, `tcp:${(far.address() as AddressInfo).port}`);
  t.after(() => near.close());
  const echoes = [1, 2].map(async () => {
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    socket.end(sent);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  });
  for (const echo of await Promise.all(echoes)) assert.ok(echo.equals(sent), `${echo.length} of ${sent.length} bytes`);
});

test('an enclave that runs elsewhere is used over its socket, and none is started in its place', posix, async (t) => {
  const bundle = await lockTiny(t);
  const running = await start(t, bundle);
  const socketPath = running.process.socketPath;
  const options = { bundleDir: bundle.bundleDir, ownerKey: bundle.keys.signingKey, stateDir: join(bundle.folder, 'x') };
  const enclave = enclaveChoice({ platform: 'snp', enclave_socket: socketPath, gramine_app: null });
  const teacher = await openLockedTeacher({ ...options, enclave });
  t.after(() => teacher.close());
  assert.equal(teacher.process, null);
  assert.equal(teacher.platform, 'snp');
  assert.equal((await teacher.client.status()).state, 'fresh');
  const nowhere = { ...enclave, socketPath: join(bundle.folder, 'none.sock') };
  await assert.rejects(openLockedTeacher({ ...options, enclave: nowhere }), { code: 'enclave-gone' });
});

test('settings of platform, socket and manifest that do not belong together', () => {
  const cases = [
    ['tdx', null, null, false],
    ['snp', null, null, false],
    ['snp', '/s', '/g', false],
    ['sgx', null, null, false],
    ['sgx', '/s', '/g', false],
    ['simulated', null, '/g', false],
    ['simulated', null, null, true],
    ['simulated', '/s', null, true],
    ['sgx', null, '/g', true],
    ['sgx', '/s', null, true],
    ['tdx', '/s', null, true],
  ] as const;
  for (const [platform, enclave_socket, gramine_app, good] of cases) {
    const choose = () => enclaveChoice({ platform, enclave_socket, gramine_app });
    if (good) assert.equal(choose().platform, platform);
    else assert.throws(choose, { code: 'enclave-choice' });
  }
});

const bare = {
  skip: posix.skip || (['/sys/kernel/config/tsm', '/dev/attestation'].some(existsSync) && 'hardware is here'),
};

test('here, where no hardware is, the main program refuses every platform but the simulated one', bare, async (t) => {
  const bundle = await lockTiny(t);
  const state = join(bundle.folder, 'state');
  await mkdir(state);
  const key = encodeBase64url(bundle.keys.signingKey);
  const run = (kind: string, keyFile: string) => {
    const args = [ENCLAVE_MAIN, kind, bundle.bundleDir, state, join(state, 'e.sock'), key, '1000000', keyFile];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
    assert.equal(status, 1);
    return JSON.parse(stdout) as Record<string, string>;
  };
  assert.deepEqual(run('sgx', ''), { error: 'platform-missing', kind: 'environment' });
  assert.deepEqual(run('tdx', ''), { error: 'platform-missing', kind: 'environment' });
  assert.deepEqual(run('snp', join(state, 'sealing.key')), { error: 'platform-missing', kind: 'environment' });
  assert.deepEqual(run('tpm', ''), { error: 'platform', kind: 'unsupported' });
});
