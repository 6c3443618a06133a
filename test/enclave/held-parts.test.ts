// Requests to enclave-held parts: what is refused and with which code, what stays inside, that altered or moved pieces do not run.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseManifest } from '../../src/model/bundle-manifest.js';
import { shieldedPlan, uniformPlan } from '../../src/model/spans.js';
import { EnclaveParts } from '../../src/trusted/enclave/parts.js';
import { readDirectory } from '../../src/trusted/lock/sealed-segment.js';
import { loadGraph } from '../../src/trusted/platform/runtime.js';
import type { Plan } from '../../src/trusted/wire/manifest.js';
import { tinyConfig } from '../owner/tiny-model.js';
import { lockTiny, start, terms, unlock } from './licensed-enclave.js';

const blocks = tinyConfig.numHiddenLayers;
const width = tinyConfig.hiddenSize;
const layout = { batch: 2, tokens: 4, lengths: [4, 3], past: null };
const ids = Int32Array.of(1, 2, 3, 4, 5, 6, 7);
const hiddenOf = (rows: number): Float32Array => new Float32Array(rows * width).fill(0.1);

async function open(t: TestContext, plan: Plan, options: { teeMemoryMb?: number } = {}) {
  const bundle = await lockTiny(t, { plan });
  const enclave = await start(t, bundle, options);
  await unlock(bundle, enclave, terms());
  const session = await enclave.client.begin({ topK: 8, temperature: 1 });
  const charged = async (): Promise<number> => (await enclave.client.status()).licence!.chargedTokens;
  return { bundle, enclave, session, charged };
}

test('everything inside: hidden states never leave, rows are charged once, and only licensed ones', async (t) => {
  const { session, charged } = await open(t, uniformPlan(blocks, 'enclave'));
  const passed = await session.embed(ids, layout);
  assert.ok(!(passed instanceof Float32Array), 'nothing but the number of a pass');
  const { pass } = passed;
  await assert.rejects(session.head({ pass, positions: Int32Array.of(0) }, 9), { code: 'top-k-too-large' });
  await assert.rejects(session.head({ pass, positions: new Int32Array(0) }, 2), { code: 'malformed' });
  await assert.rejects(session.head({ pass, positions: new Int32Array(8) }, 2), { code: 'release-not-authorised' });
  await assert.rejects(session.head({ pass, positions: Int32Array.of(8) }, 2), { code: 'malformed' });
  await assert.rejects(session.head({ pass: pass + 1, positions: Int32Array.of(0) }, 2), { code: 'pass-unknown' });
  await assert.rejects(session.head(hiddenOf(1), 2), { code: 'malformed' }, 'rows from outside');
  assert.equal(await charged(), 0);
  const released = await session.head({ pass, positions: Int32Array.of(0, 3, 6) }, 8);
  assert.equal(released.tokenIds.length, 24);
  assert.ok(released.logprobs.every((logprob) => logprob <= 0 && Number.isFinite(logprob)));
  assert.equal(await charged(), 3);
  await assert.rejects(
    session.head({ pass, positions: Int32Array.of(1) }, 2),
    { code: 'pass-unknown' },
    'a pass is released once',
  );
  const rows = { rows: 1, k: 1, lockedIds: Int32Array.of(0), logprobs: Float32Array.of(-1) };
  await assert.rejects(session.authorise(Int32Array.of(1)), { code: 'part-not-held' }, 'the permutation stays inside');
  await assert.rejects(session.release(rows), { code: 'part-not-held' });
  await assert.rejects(session.embed(Int32Array.of(1, 2, 3, 4, 5, 6, tinyConfig.vocabSize), layout), {
    code: 'token-out-of-range',
  });
  await assert.rejects(session.block(1, hiddenOf(8), layout), { code: 'part-not-held' }, 'the head is no block');
});

test('a session keeps few passes; the oldest goes first', async (t) => {
  const { session } = await open(t, uniformPlan(blocks, 'enclave'));
  const passes: number[] = [];
  for (let i = 0; i < 5; i++) passes.push(((await session.embed(ids, layout)) as { pass: number }).pass);
  await assert.rejects(session.head({ pass: passes[0]!, positions: Int32Array.of(0) }, 1), { code: 'pass-unknown' });
  await session.head({ pass: passes[4]!, positions: Int32Array.of(0) }, 1);
});

test('a block between accelerator parts runs only as many tokens as were authorised, of the right size', async (t) => {
  const { session, charged } = await open(t, shieldedPlan(blocks, ['1']));
  await assert.rejects(session.block(1, hiddenOf(8), layout), { code: 'release-not-authorised' });
  await session.authorise(ids);
  await assert.rejects(session.block(1, hiddenOf(7), layout), { code: 'malformed' });
  assert.equal(((await session.block(1, hiddenOf(8), layout)) as Float32Array).length, 8 * width);
  await assert.rejects(session.block(1, hiddenOf(8), layout), { code: 'release-not-authorised' }, 'each token once');
  await assert.rejects(session.embed(ids, layout), { code: 'part-not-held' });
  await assert.rejects(session.head(hiddenOf(1), 1), { code: 'part-not-held' });
  assert.equal(await charged(), 0);
});

test('a bundle with everything on the accelerator answers no request for parts', async (t) => {
  const { session } = await open(t, uniformPlan(blocks, 'accelerator'));
  await assert.rejects(session.embed(ids, layout), { code: 'part-not-held' });
  await assert.rejects(session.block(0, hiddenOf(8), layout), { code: 'part-not-held' });
  await assert.rejects(session.head(hiddenOf(1), 1), { code: 'part-not-held' });
});

test('caches go on only from where they are, one sequence at a time', async (t) => {
  const { session } = await open(t, uniformPlan(blocks, 'enclave'));
  const step = (past: number, ...tokens: number[]) =>
    session.embed(Int32Array.from(tokens), { batch: 1, tokens: tokens.length, lengths: [tokens.length], past });
  await assert.rejects(step(3, 1), { code: 'cache-length' });
  await step(0, 1, 2, 3);
  await assert.rejects(step(2, 1), { code: 'cache-length' });
  await step(3, 4);
  await assert.rejects(session.embed(ids, { ...layout, past: 0 }), { code: 'malformed' }, 'two rows');
  await step(0, 5);
});

test('a batch beyond the trusted memory is refused, and the session goes on', async (t) => {
  const { session } = await open(t, uniformPlan(blocks, 'enclave'), { teeMemoryMb: 0.05 });
  const rows = Array.from({ length: 1000 }, () => 1);
  const many = { batch: 1000, tokens: 1, lengths: rows, past: null };
  await assert.rejects(session.embed(Int32Array.from(rows), many), { code: 'memory-exceeded' });
  await session.embed(Int32Array.of(1), { batch: 1, tokens: 1, lengths: [1], past: null });
});

test('pieces that are altered, or swapped for others of the same bundle, do not open', async (t) => {
  const { bundleDir, keys } = await lockTiny(t, { plan: uniformPlan(blocks, 'enclave') });
  const manifest = parseManifest(await readFile(join(bundleDir, 'manifest.json')));
  const whole = await readFile(join(bundleDir, 'segments', '00.sealed'));
  const head = await readFile(join(bundleDir, 'segments', '01.sealed'));
  const enter = (bytes: Buffer): Promise<Float32Array> => {
    const readBundle = (path: string, offset: number, length: number) =>
      (path === 'segments/00.sealed' ? bytes : head).subarray(offset, offset + length);
    const parts = new EnclaveParts({ memoryBytes: 1e6, readBundle, loadGraph }, manifest, keys.bundleKey);
    return parts.enter(new Int32Array(8), { lengths: Int32Array.of(4, 4), tokens: 4, cache: null, past: 0 });
  };
  const attempt = async (change: (bytes: Buffer) => void): Promise<void> => {
    const bytes = Buffer.from(whole);
    change(bytes);
    await assert.rejects(async () => enter(bytes), { kind: 'verification', code: 'sealed' });
  };
  assert.equal((await enter(whole)).length, 8 * width);
  const places = readDirectory((offset, length) => whole.subarray(offset, offset + length));
  for (const { offset, length } of places)
    for (const at of [offset, offset + 12, offset + length - 1])
      await attempt((bytes) => bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at));
  const first = places.findIndex(
    ({ length }, i) => i > 0 && places.some((other, j) => j > i && other.length === length),
  );
  assert.ok(first > 0, 'no two pieces of one size');
  const [one, other] = [places[first]!, places.find(({ length }, j) => j > first && length === places[first]!.length)!];
  await attempt((bytes) => {
    whole.copy(bytes, one.offset, other.offset, other.offset + other.length);
    whole.copy(bytes, other.offset, one.offset, one.offset + one.length);
  });
  assert.throws(() => readDirectory(() => new Uint8Array(4)), { code: 'sealed-segment' });
});
