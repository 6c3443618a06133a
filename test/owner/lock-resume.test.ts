// A lock that stops half way: it goes on with the same keys and gives the same bundle byte for byte; a changed checkpoint, key or
// scheme is named; a full disk says what is kept; nothing half-made is ever under the bundle's name.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFile, cp, mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBundle } from '../../src/edge/bundle.js';
import { writeBundle } from '../../src/owner/bundle-writer.js';
import { type LockOptions, lockModel } from '../../src/owner/lock-checkpoint.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { type DistillockError, ProtocolError } from '../../src/trusted/wire/errors.js';
import { temporaryFolder, tinyCheckpoint } from './tiny-model.js';

const keys = createOwnerKeys({ lockSeed: new Uint8Array(32).fill(3) });

async function digests(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const pairs = paths.sort().map(async (path): Promise<[string, string]> => {
    const digest = createHash('sha256').update(await readFile(path));
    return [path.slice(folder.length + 1), digest.digest('hex')];
  });
  return Object.fromEntries(await Promise.all(pairs));
}

/** Locks until `stopAt` weights are done, then stops as Ctrl-C does. Gives the folder that is kept. */
async function stopped(outDir: string, stopAt: number, options: Partial<LockOptions> = {}): Promise<string> {
  const onProgress = ({ done }: { done: number }): void => {
    if (done >= stopAt) throw new ProtocolError('interrupted', 'interrupted');
  };
  const locking = lockModel({ checkpoint: tinyCheckpoint(), keys, outDir, ...options, onProgress });
  await assert.rejects(locking, { code: 'interrupted' });
  return join(outDir, '..', `.${outDir.split('/').at(-1)}.partial`);
}

test('a lock stopped after any number of weights goes on, and gives the same bundle byte for byte', async (t) => {
  const folder = await temporaryFolder(t);
  const unbroken = join(folder, 'unbroken');
  const { bundleId } = await lockModel({ checkpoint: tinyCheckpoint(), keys, outDir: unbroken });
  const expected = await digests(unbroken);
  let most = 0;
  for (const stopAt of [1, 4, 9, 16]) {
    const outDir = join(folder, `stopped-${stopAt}`);
    await stopped(outDir, stopAt);
    assert.equal((await readdir(folder)).includes(`stopped-${stopAt}`), false);
    const reads: string[] = [];
    const checkpoint = tinyCheckpoint();
    const counted = {
      ...checkpoint.tensors,
      read: (name: string) => {
        reads.push(name);
        return checkpoint.tensors.read(name);
      },
    };
    const firsts: number[] = [];
    const again = await lockModel({
      checkpoint: { ...checkpoint, tensors: counted },
      keys,
      outDir,
      onProgress: ({ bytesDone }) => firsts.push(bytesDone),
    });
    assert.equal(again.bundleId, bundleId);
    assert.deepEqual(await digests(outDir), expected);
    await openBundle(outDir, { ownerKey: keys.signingKey });
    assert.ok(firsts[0]! > 0);
    if (stopAt > 2)
      assert.ok(!reads.includes('model.layers.0.self_attn.q_proj.weight'), 'done weights are not done again');
    most = Math.max(most, reads.length);
  }
  assert.ok(most > 0);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.startsWith('.')),
    [],
  );
});

test('a quantised lock goes on after any weight, and gives the same bundle byte for byte', async (t) => {
  const folder = await temporaryFolder(t);
  const unbroken = join(folder, 'unbroken');
  await lockModel({ checkpoint: tinyCheckpoint(), keys, outDir: unbroken, quantize: 'int4' });
  const expected = await digests(unbroken);
  for (const stopAt of [2, 6, 7, 8, 15]) {
    const outDir = join(folder, `stopped-${stopAt}`);
    await stopped(outDir, stopAt, { quantize: 'int4' });
    await lockModel({ checkpoint: tinyCheckpoint(), keys, outDir, quantize: 'int4' });
    assert.deepEqual(await digests(outDir), expected);
  }
});

test('another checkpoint, key, scheme or tokenizer is named, and the unfinished lock stays', async (t) => {
  const folder = await temporaryFolder(t);
  const outDir = join(folder, 'm.lock');
  const kept = await stopped(outDir, 9);
  const before = await digests(kept);
  const good = tinyCheckpoint();
  const changedWeights = tinyCheckpoint();
  (await changedWeights.tensors.read('model.norm.weight'))[3]! += 1;
  const tokenizer = { 'tokenizer.json': new TextEncoder().encode('{"version":"2.0"}') };
  const cases: readonly (readonly [string, Partial<LockOptions>])[] = [
    ['checkpoint', { checkpoint: changedWeights }],
    ['checkpoint', { checkpoint: { ...good, tokenizer } }],
    ['checkpoint', { checkpoint: { ...good, config: { ...good.config, ropeTheta: 5000 } } }],
    ['keys', { keys: createOwnerKeys() }],
    ['keys', { keys: { ...keys, lockSeed: new Uint8Array(32).fill(4) } }],
    ['scheme', { scheme: 'permutation' }],
    ['quantize', { quantize: 'int4' }],
    ['checkpoint,keys,scheme', { checkpoint: changedWeights, keys: createOwnerKeys(), scheme: 'permutation' }],
  ];
  for (const [changed, options] of cases) {
    await assert.rejects(lockModel({ checkpoint: good, keys, outDir, ...options }), (error: DistillockError) => {
      assert.equal(error.code, 'lock-unfinished');
      assert.equal(error.details['changed'], changed);
      for (const name of changed.split(',')) assert.ok(error.message.includes(`another ${name}`), error.message);
      assert.ok(error.message.includes(kept));
      return true;
    });
    assert.deepEqual(await digests(kept), before);
  }
  const secret = Buffer.from(keys.lockSeed);
  const journal = await readFile(join(kept, '.journal'), 'utf8');
  for (const text of [secret.toString('base64url'), secret.toString('hex')])
    assert.equal(journal.includes(text), false);
  await lockModel({ checkpoint: good, keys, outDir });
});

test('a journal torn anywhere, or data cut short, costs work and never bits', async (t) => {
  const folder = await temporaryFolder(t);
  const unbroken = join(folder, 'unbroken');
  await lockModel({ checkpoint: tinyCheckpoint(), keys, outDir: unbroken });
  const expected = await digests(unbroken);
  const outDir = join(folder, 'm.lock');
  const kept = await stopped(outDir, 9);
  const copy = join(folder, 'copy');
  await cp(kept, copy, { recursive: true });
  const whole = (await readFile(join(copy, '.journal'))).length;
  const data = (await readFile(join(copy, 'segments', '00.data'))).length;
  const damages: (() => Promise<void>)[] = [];
  for (let length = 0; length < whole; length += 41) damages.push(() => truncate(join(kept, '.journal'), length));
  for (const length of [0, 100, data >> 1]) damages.push(() => truncate(join(kept, 'segments', '00.data'), length));
  damages.push(() => appendFile(join(kept, '.journal'), '{"done":"0/model.la'));
  for (const [i, damage] of damages.entries()) {
    await cp(copy, kept, { recursive: true });
    await damage();
    const target = join(folder, `after-${i}`);
    await cp(kept, join(folder, `.after-${i}.partial`), { recursive: true });
    await lockModel({ checkpoint: tinyCheckpoint(), keys, outDir: target });
    assert.deepEqual(await digests(target), expected, `damage ${i}`);
  }
});

test('a lock whose keys nobody has keeps nothing', async (t) => {
  const folder = await temporaryFolder(t);
  const onProgress = (): never => {
    throw new ProtocolError('interrupted', 'interrupted');
  };
  const locking = lockModel({ checkpoint: tinyCheckpoint(), outDir: join(folder, 'm.lock'), onProgress });
  await assert.rejects(locking, { code: 'interrupted' });
  assert.deepEqual(await readdir(folder), []);
});

test('a full disk is named, and the message says what is kept', async (t) => {
  const folder = await temporaryFolder(t);
  const outDir = join(folder, 'model.lock');
  const fill = async (inside: string): Promise<never> => {
    await writeFile(join(inside, 'half'), 'x');
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  };
  const job = { outDir, keys, facts: { checkpoint: 'a' }, fill };
  await assert.rejects(writeBundle({ ...job, resumable: true }), (error: DistillockError) => {
    assert.deepEqual([error.kind, error.code], ['environment', 'disk-full']);
    assert.match(error.message, /is kept in .*\.model\.lock\.partial/);
    return true;
  });
  assert.deepEqual(await readdir(folder), ['.model.lock.partial']);
  await assert.rejects(writeBundle({ ...job, resumable: false }), (error: DistillockError) => {
    assert.equal(error.code, 'disk-full');
    assert.match(error.message, /nothing was left behind/);
    return true;
  });
  assert.deepEqual(await readdir(folder), []);
});

test('two locks of one bundle at once: the second is refused', async (t) => {
  const folder = await temporaryFolder(t);
  const outDir = join(folder, 'model.lock');
  let second: Promise<unknown> | undefined;
  await lockModel({
    checkpoint: tinyCheckpoint(),
    keys,
    outDir,
    onProgress: () => {
      second ??= assert.rejects(lockModel({ checkpoint: tinyCheckpoint(), keys, outDir }), { code: 'run-locked' });
    },
  });
  await second;
  await openBundle(outDir, { ownerKey: keys.signingKey });
});

test('what lies in the way without a journal is cleared', async (t) => {
  const folder = await temporaryFolder(t);
  const partial = join(folder, '.m.lock.partial');
  await mkdir(join(partial, 'segments'), { recursive: true });
  await writeFile(join(partial, 'segments', '00.data'), 'foreign');
  await writeFile(join(partial, 'stray.bin'), 'foreign');
  const { keys: made } = await lockModel({ checkpoint: tinyCheckpoint(), outDir: join(folder, 'm.lock') });
  const { manifest } = await openBundle(join(folder, 'm.lock'), { ownerKey: made.signingKey });
  assert.ok(!manifest.files.some(({ path }) => path.includes('stray')));
});
