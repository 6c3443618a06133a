// distillock verify-lock: a good lock passes, a weight that is off by a little does not, foreign keys and models are named; and
// distillock lock goes on after a kill.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseManifest } from '../../src/model/bundle-manifest.js';
import { digestFile } from '../../src/model/file-digest.js';
import { encodeManifest } from '../../src/owner/encode-manifest.js';
import { loadOwnerKeys } from '../../src/owner/owner-keys.js';
import { signDetached } from '../../src/owner/sign.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, STORIES, start, until } from './command-line.js';

/** Adds `by` to one float of the bundle's body and signs the bundle again, as an owner whose lock went wrong would have. */
async function spoil(bundle: string, keyFile: string, by: number): Promise<void> {
  const keys = await loadOwnerKeys(keyFile);
  const file = join(bundle, 'segments', '00.data');
  const handle = await open(file, 'r+');
  // Somewhere in the blocks: the embedding comes first.
  const position = 4 * Math.floor((await handle.stat()).size / 8);
  const float = new Float32Array(1);
  const bytes = new Uint8Array(float.buffer);
  await handle.read(bytes, 0, 4, position);
  float[0]! += by;
  await handle.write(bytes, 0, 4, position);
  await handle.close();
  const path = join(bundle, 'manifest.json');
  const manifest = parseManifest(await readFile(path));
  const digest = await digestFile(file);
  const files = manifest.files.map((entry) => (entry.path === 'segments/00.data' ? { ...entry, ...digest } : entry));
  const encoded = encodeManifest({ ...manifest, files });
  await writeFile(path, encoded);
  await writeFile(join(bundle, 'manifest.jws'), await signDetached('manifest', encoded, keys));
}

/** stories260K, all of it on the accelerator. */
async function lockOutside(folder: string, name: string): Promise<{ bundle: string; keys: string }> {
  const [bundle, keys] = [join(folder, `${name}.lock`), join(folder, `${name}.keys`)];
  await json('lock', '--model', STORIES, '--out', bundle, '--keys', keys, '--placement', 'accelerator');
  return { bundle, keys };
}

for (const [scheme, placement] of [
  ['rotation', 'accelerator'],
  ['permutation', 'accelerator'],
  ['rotation', 'shielded:embedding,1,head'],
  ['permutation', 'shielded:0,3'],
  ['rotation', 'enclave'],
] as const) {
  test(`a good lock passes, on bundled and on own text: ${scheme}, ${placement}`, async (t) => {
    const folder = await temporaryFolder(t);
    const [bundle, keys] = [join(folder, 'a.lock'), join(folder, 'a.keys')];
    const how = ['--scheme', scheme, '--placement', placement, '--enclave_precision', 'float32', '--accept_recorder'];
    await json('lock', '--model', STORIES, '--out', bundle, '--keys', keys, ...how);
    const verify = ['verify-lock', bundle, '--model', STORIES, '--keys', keys];
    const found = await json(...verify, '--max_tokens', '600');
    assert.equal(found.tokens, 600);
    assert.ok(found.maxDelta > 0 && found.maxDelta < 1e-3, `${scheme}: ${found.maxDelta}`);
    assert.ok(found.kl < 1e-6 && found.agreement > 0.999 && found.equal);
    const text = join(folder, 'mine.txt');
    await writeFile(text, 'Once upon a time there was a lock, and nobody could tell.');
    const own = ['--text', text, '--max_tokens', '9'];
    assert.equal((await json(...verify, ...own)).tokens, 9);
    assert.match((await cli(...verify, ...own)).out, /whole vocabulary[\s\S]*9 tokens compared/);
  });
}

test('one weight that is off makes it fail with exit code 1, and more tolerance lets it pass', async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, keys } = await lockOutside(folder, 'teacher');
  const verify = ['verify-lock', bundle, '--model', STORIES, '--keys', keys, '--max_tokens', '128'];
  await spoil(bundle, keys, 0);
  assert.ok((await json(...verify)).equal);
  await spoil(bundle, keys, 0.5);
  const failed = await failure(...verify);
  assert.deepEqual([failed.code, failed.exitCode], ['lock-differs', 1]);
  assert.match(failed.message, /differ by up to .* nats \(allowed 0.001\)/);
  assert.ok((await json(...verify, '--tolerance', '100')).maxDelta > 1e-3);
});

test('foreign keys, another model, an altered file, no text: each is named', async (t) => {
  const folder = await temporaryFolder(t);
  const a = await lockOutside(folder, 'a');
  const b = await lockOutside(folder, 'b');
  const verify = async (...words: readonly string[]): Promise<string> => (await failure('verify-lock', ...words)).code;
  assert.equal(await verify(a.bundle, '--model', STORIES, '--keys', b.keys), 'bundle-signature');
  const mixed = join(folder, 'mixed.keys');
  const [own, other] = await Promise.all(
    [a.keys, b.keys].map(async (file) => JSON.parse(await readFile(file, 'utf8'))),
  );
  await writeFile(mixed, JSON.stringify({ ...own, lockSeed: other.lockSeed }));
  assert.equal(await verify(a.bundle, '--model', STORIES, '--keys', mixed), 'lock-keys');
  const model = join(folder, 'model');
  await mkdir(model);
  await cp(STORIES, model, { recursive: true });
  const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8'));
  await writeFile(join(model, 'config.json'), JSON.stringify({ ...config, rope_theta: 500 }));
  const theta = await failure('verify-lock', a.bundle, '--model', model, '--keys', a.keys);
  assert.equal(theta.code, 'model-differs');
  assert.match(theta.message, /ropeTheta is 10000 in the bundle and 500 in the checkpoint/);
  const empty = join(folder, 'empty.txt');
  await writeFile(empty, '');
  assert.equal(await verify(a.bundle, '--model', STORIES, '--keys', a.keys, '--text', empty), 'text-empty');
  const none = join(folder, 'none.txt');
  assert.equal(await verify(a.bundle, '--model', STORIES, '--keys', a.keys, '--text', none), 'file-missing');
  const data = join(a.bundle, 'segments', '01.data');
  const bytes = await readFile(data);
  bytes[1000]! ^= 1;
  await writeFile(data, bytes);
  assert.equal(await verify(a.bundle, '--model', STORIES, '--keys', a.keys), 'bundle-file-hash');
});

test('lock: killed outright, the same command goes on and gives the same bundle; another scheme is refused by name', async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, keys } = await lockOutside(folder, 'unbroken');
  const [out, partial] = [join(folder, 'killed.lock'), join(folder, '.killed.lock.partial')];
  const lines = (): number =>
    existsSync(join(partial, '.journal')) ? readFileSync(join(partial, '.journal'), 'utf8').split('\n').length : 0;
  const command = ['lock', '--model', STORIES, '--out', out, '--keys', keys, '--placement', 'accelerator'];
  const killed = async (): Promise<boolean> => {
    await rm(out, { recursive: true, force: true });
    const run = start(process.cwd(), ...command);
    await until('some weights', () => lines() > 5 || existsSync(out));
    run.child.kill('SIGKILL');
    await run.ended;
    return !existsSync(out);
  };
  let tries = 0;
  // A small model may be done before it can be killed.
  while (!(await killed())) assert.ok(++tries < 20, 'it was never killed in time');
  assert.ok(lines() > 5);
  const refused = await failure(...command, '--scheme', 'permutation');
  assert.equal(refused.code, 'lock-unfinished');
  assert.match(refused.message, /another scheme/);
  const again = await cli(...command);
  assert.equal(again.code, 0, again.err);
  assert.match(again.err, /going on: \d+ of \d+ MB were done/);
  for (const name of await readdir(bundle, { recursive: true })) {
    const [one, other] = [join(bundle, name), join(out, name)];
    if (!name.includes('.')) continue;
    assert.deepEqual(await readFile(other), await readFile(one), name);
  }
  assert.ok(!existsSync(partial));
});

test('integer matrices are shown, named as the reason of a difference, and refused where there is nothing to quantise', async (t) => {
  const folder = await temporaryFolder(t);
  const [bundle, keys] = [join(folder, 'a.lock'), join(folder, 'a.keys')];
  const lock = ['lock', '--model', STORIES, '--out', bundle, '--keys', keys, '--quantize', 'int8'];
  const refused = await failure(...lock, '--placement', 'enclave');
  assert.equal(refused.code, 'quantize-enclave');
  assert.equal(existsSync(bundle), false);
  await json(...lock, '--placement', 'shielded:0');
  assert.match((await cli('inspect', bundle)).out, /matrices\s+int8 on the accelerator/);
  const verify = ['verify-lock', bundle, '--model', STORIES, '--keys', keys, '--max_tokens', '128'];
  const differs = await failure(...verify);
  assert.equal(differs.code, 'lock-differs');
  assert.match(differs.message, /its matrices are int8, which rounds/);
  const found = await json(...verify, '--tolerance', '2');
  assert.ok(found.kl > 1e-6 && found.kl < 0.01, `${found.kl}`);
});
