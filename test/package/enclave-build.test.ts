// The enclave as one file: the same bytes wherever it is built, another hash for any change, and it runs.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { appendFile, cp, mkdir, readFile, rm, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { parseSimulated, verifySimulated } from '../../src/attest/evidence/simulated.js';
import { EnclaveClient } from '../../src/edge/enclave/client.js';
import { decodeBase64url, encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { lockTiny } from '../enclave/licensed-enclave.js';
import { temporaryFolder } from '../owner/tiny-model.js';

const posix = { skip: process.platform === 'win32' && 'needs links and Unix sockets' };
const run = promisify(execFile);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A clean copy of what the build reads. `copied` packages lie in it, the others are links. */
async function checkout(folder: string, copied: readonly string[]): Promise<string> {
  for (const path of ['src/trusted', 'tools/build-enclave.mjs', 'package.json', 'package-lock.json'])
    await cp(path, join(folder, path), { recursive: true });
  const modules = join(folder, 'node_modules');
  await mkdir(modules);
  for (const name of ['@hpke', 'onnxruntime-common', 'onnxruntime-node', 'esbuild', '@esbuild']) {
    if (copied.includes(name)) await cp(resolve('node_modules', name), join(modules, name), { recursive: true });
    else await symlink(resolve('node_modules', name), join(modules, name));
  }
  return folder;
}

interface Built {
  readonly program: Buffer;
  readonly measurement: string;
  readonly printed: string;
}

async function build(folder: string): Promise<Built> {
  await rm(join(folder, 'dist'), { recursive: true, force: true });
  const { stdout } = await run('npm', ['run', '--silent', 'measure'], { cwd: folder });
  const measurement = /^measurement {2}([0-9a-f]{64})$/m.exec(stdout)?.[1] ?? assert.fail(stdout);
  const program = await readFile(join(folder, 'dist', 'enclave', 'distillock-enclave.mjs'));
  assert.ok(stdout.startsWith(`${sha256(program)}  distillock-enclave.mjs\n`), stdout);
  const sums = await readFile(join(folder, 'dist', 'enclave', 'SHA256SUMS'));
  assert.equal(sha256(sums), measurement);
  return { program, measurement, printed: stdout };
}

test('two clean builds in different places print the same hashes; a change shows', posix, async (t) => {
  const folder = await temporaryFolder(t);
  const one = await checkout(join(folder, 'one'), []);
  const two = await checkout(join(folder, 'deeper', 'and', 'two'), ['@hpke', 'onnxruntime-common']);
  const first = await build(one);
  const second = await build(two);
  assert.deepEqual(second.program, first.program);
  assert.equal(second.printed, first.printed);
  assert.deepEqual((await build(one)).program, first.program, 'and again in the same place');
  for (const place of [folder, resolve('.')]) assert.ok(!first.program.includes(place), `the file names ${place}`);

  await appendFile(join(two, 'node_modules', 'onnxruntime-common', 'dist', 'cjs', 'env.js'), '\n');
  const runtime = await build(two);
  assert.deepEqual(runtime.program, first.program);
  assert.notEqual(runtime.measurement, first.measurement, 'the runtime is measured');
  const source = join(one, 'src', 'trusted', 'wire', 'limits.ts');
  await appendFile(source, '\nconsole.log(MAX_LICENCES);\n');
  assert.notEqual((await build(one)).measurement, first.measurement, 'so is the program');
});

async function startProgram(t: TestContext, program: string, args: readonly string[]): Promise<Record<string, string>> {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line) as Record<string, string>;
  return assert.fail('the program said nothing');
}

test(
  'the folder of --out is complete: its program runs with its runtime, and evidence carries its hash',
  posix,
  async (t) => {
    const bundle = await lockTiny(t);
    const out = join(bundle.folder, 'enclave');
    await run(process.execPath, ['tools/build-enclave.mjs', '--out', out]);
    const program = join(out, 'distillock-enclave.mjs');
    const sums = (await readFile(join(out, 'SHA256SUMS'), 'utf8')).trim().split('\n');
    for (const line of sums) {
      const [hash, path] = line.split('  ') as [string, string];
      assert.equal(sha256(await readFile(join(out, path))), hash, path);
    }
    const state = join(bundle.folder, 'state');
    await mkdir(state);
    const socket = join(state, 'enclave.sock');
    const ownerKey = encodeBase64url(bundle.keys.signingKey);
    const ready = await startProgram(t, program, [
      'simulated',
      bundle.bundleDir,
      state,
      socket,
      ownerKey,
      '1000000000',
    ]);
    assert.equal(ready.ready, 'yes', JSON.stringify(ready));
    const client = await EnclaveClient.connect(socket);
    const nonce = new Uint8Array(randomBytes(32));
    const evidence = parseSimulated(await client.attest(nonce));
    const { platform } = verifySimulated(evidence, decodeBase64url(ready.root ?? ''), nonce);
    assert.equal(platform.kind === 'simulated' && platform.measurement, sha256(await readFile(program)));
    await client.close();
    if (process.platform !== 'linux' || process.arch !== 'x64') return;
    const script = `const ort = await import('onnxruntime-node'); console.log(typeof ort.InferenceSession.create)`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: out });
    assert.equal(stdout, 'function\n', 'the copied files are all that the runtime loads');
  },
);
