// The bubblewrap variant: same conversation, no network, nothing readable or writable but its own. Must run where CI=true.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bubblewrapArguments, bubblewrapWorks } from '../../src/edge/enclave/sandbox.js';
import { lockTiny, start, unlock } from './licensed-enclave.js';

const works = bubblewrapWorks();
const skip = works || process.env.CI === 'true' ? false : 'bubblewrap is not installed here';

test('the enclave runs inside bubblewrap, survives kill -9 with its counts, and says so', { skip }, async (t) => {
  const bundle = await lockTiny(t);
  const notices: string[] = [];
  const enclave = await start(t, bundle, { sandbox: 'bubblewrap', onNotice: (line) => notices.push(line) });
  assert.equal(enclave.process.sandbox, 'bubblewrap');
  assert.deepEqual(notices, ['SIMULATED: no hardware protects this enclave (sandbox: bubblewrap)']);
  await unlock(bundle, enclave);
  const session = await enclave.client.begin({ topK: 2, temperature: 1 });
  await session.authorise(Int32Array.of(1, 2));
  await session.release({ rows: 2, k: 1, lockedIds: Int32Array.of(0, 1), logprobs: Float32Array.of(-1, -1) });
  process.kill(enclave.process.pid, 'SIGKILL');
  await enclave.process.exited();
  const again = await start(t, bundle, { sandbox: 'bubblewrap' });
  assert.equal((await again.client.status()).licence?.chargedTokens, 2);
});

test('an enclave process that says nothing is killed and started again; one that never speaks is an error', {
  skip: process.platform === 'linux' ? false : 'needs a bwrap to stand in for',
}, async (t) => {
  const bundle = await lockTiny(t);
  const bin = join(bundle.folder, 'bin');
  mkdirSync(bin);
  // Answers the probe, hangs in its first start, or in all of them, and otherwise runs the command without a sandbox.
  const script = `#!/bin/bash
    case "$*" in *--version) exit 0;; esac
    if [ -e "$0.deaf" ] || [ ! -e "$0.tried" ]; then touch "$0.tried"; exec sleep 600; fi
    while [ "$1" != --chdir ]; do shift; done
    exec "\${@:3}"`;
  writeFileSync(join(bin, 'bwrap'), script, { mode: 0o755 });
  const path = process.env.PATH;
  process.env.PATH = `${bin}:${path}`;
  t.after(() => {
    process.env.PATH = path;
  });
  const notices: string[] = [];
  const startTimeoutsMs = [300, 20_000];
  const enclave = await start(t, bundle, { sandbox: 'auto', startTimeoutsMs, onNotice: (line) => notices.push(line) });
  assert.equal((await enclave.client.status()).state, 'fresh');
  assert.match(notices[0]!, /said nothing for 0.3 s/);
  assert.match(notices[1]!, /^SIMULATED/);
  writeFileSync(join(bin, 'bwrap.deaf'), '');
  const deaf = start(t, bundle, {
    stateDir: join(bundle.folder, 'deaf'),
    sandbox: 'auto',
    startTimeoutsMs: [200, 200],
  });
  await assert.rejects(deaf, { code: 'enclave-silent' });
});

test('a state folder with a path too long for a socket still works', { skip }, async (t) => {
  const bundle = await lockTiny(t);
  const stateDir = join(bundle.folder, 'x'.repeat(120));
  const { process: enclave, client } = await start(t, bundle, { sandbox: 'bubblewrap', stateDir });
  assert.equal((await client.status()).state, 'fresh');
  await enclave.stop();
  assert.equal(existsSync(enclave.socketPath), false);
});

test('inside the sandbox there is no network, no other file, and only the state folder is writable', {
  skip,
}, async (t) => {
  const bundle = await lockTiny(t);
  const stateDir = join(realpathSync(bundle.folder), 'state');
  const bundleDir = realpathSync(bundle.bundleDir);
  mkdirSync(stateDir);
  const secret = join(realpathSync(bundle.folder), 'private.txt');
  writeFileSync(secret, 'text');
  const probe = `
    const fs = require('node:fs'), os = require('node:os'), net = require('node:net');
    const can = (f) => { try { f(); return true; } catch { return false; } };
    fs.writeFileSync('out.json', JSON.stringify({
      secret: can(() => fs.readFileSync(${JSON.stringify(secret)})),
      passwd: fs.existsSync('/etc/passwd'),
      bundle: can(() => fs.readFileSync(${JSON.stringify(join(bundleDir, 'manifest.json'))})),
      writeBundle: can(() => fs.appendFileSync(${JSON.stringify(join(bundleDir, 'manifest.json'))}, 'x')),
      writeCode: can(() => fs.appendFileSync(${JSON.stringify(join(import.meta.dirname, '../../src/trusted/wire/frame.js'))}, ' ')),
      interfaces: Object.values(os.networkInterfaces()).flat().filter((i) => !i.internal).length,
      environment: Object.keys(process.env),
    }));
    net.connect({ host: '1.1.1.1', port: 443 }).on('error', (e) => { fs.writeFileSync('net', e.code); }).on('connect', () => { fs.writeFileSync('net', 'open'); process.exit(); });`;
  const args = [...bubblewrapArguments({ bundleDir, stateDir, socketDir: stateDir }), process.execPath, '-e', probe];
  const run = spawnSync('bwrap', args, { encoding: 'utf8' });
  assert.equal(run.status, 0, run.stderr);
  const seen = JSON.parse(readFileSync(join(stateDir, 'out.json'), 'utf8')) as Record<string, unknown>;
  const { secret: readsSecret, passwd, bundle: readsBundle, writeBundle, writeCode, interfaces, environment } = seen;
  assert.deepEqual(
    { readsSecret, passwd, readsBundle, writeBundle, writeCode, interfaces },
    {
      readsSecret: false,
      passwd: false,
      readsBundle: true,
      writeBundle: false,
      writeCode: false,
      interfaces: 0,
    },
  );
  assert.deepEqual(environment, ['PWD']);
  assert.equal(readFileSync(join(stateDir, 'net'), 'utf8'), 'ENETUNREACH');
});
