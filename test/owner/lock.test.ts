// Locking a checkpoint: the bundle holds the locked weights, is reproducible, is never overwritten, and leaves nothing when it fails.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBundle } from '../../src/edge/bundle.js';
import { readSegmentWeight } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import { writeBundle } from '../../src/owner/bundle-writer.js';
import { type LockProgress, lockModel } from '../../src/owner/lock-checkpoint.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { createScheme } from '../../src/owner/scheme/lock-scheme.js';
import { lockWeight } from '../../src/owner/scheme/lock-weight.js';
import { MalformedError } from '../../src/trusted/wire/errors.js';
import { temporaryFolder, tinyCheckpoint, tinyConfig } from './tiny-model.js';

test('every weight of the bundle is the checkpoint’s, locked as the scheme says', async (t) => {
  const outDir = join(await temporaryFolder(t), 'model.lock');
  const checkpoint = tinyCheckpoint();
  const progress: LockProgress[] = [];
  const { bundleId, keys } = await lockModel({ checkpoint, outDir, onProgress: (step) => progress.push(step) });
  const bundle = await openBundle(outDir, { ownerKey: keys.signingKey });
  assert.equal(bundle.bundleId, bundleId);
  assert.deepEqual(bundle.config, tinyConfig);
  assert.deepEqual(bundle.manifest.plan, {
    embedding: 'accelerator',
    blocks: ['accelerator', 'accelerator'],
    head: 'accelerator',
  });
  assert.equal(progress.at(-1)?.done, progress.at(-1)?.total);
  assert.equal(progress.at(-1)?.bytesDone, progress.at(-1)?.bytesTotal);

  const lock = createScheme('rotation', keys.lockSeed, tinyConfig);
  for (const [i, segment] of buildSegments(tinyConfig).entries()) {
    const data = await readFile(bundle.segments[i]!.data);
    let offset = 0;
    for (const weight of segment.weights) {
      offset = Math.ceil(offset / 64) * 64;
      const expected = await lockWeight(lock, checkpoint.tensors, weight, 0);
      const stored = new Float32Array(new Uint8Array(data.subarray(offset, offset + expected.byteLength)).buffer);
      assert.deepEqual(stored, expected, weight.name);
      if (weight.kind === 'matrix' || weight.kind === 'table') {
        const plain = await readSegmentWeight(checkpoint.tensors, weight);
        assert.notDeepEqual(stored, plain, `${weight.name} is not locked`);
      }
      offset += expected.byteLength;
    }
    assert.equal(offset, data.length);
  }
});

test('nothing in the bundle names a secret, and no embedding row or head column stays in place', async (t) => {
  const outDir = join(await temporaryFolder(t), 'model.lock');
  const { keys } = await lockModel({ checkpoint: tinyCheckpoint(), outDir });
  for (const entry of await readdir(outDir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const bytes = await readFile(join(entry.parentPath, entry.name));
    for (const secret of [keys.lockSeed, keys.bundleKey, keys.signingSecret]) {
      assert.equal(bytes.includes(Buffer.from(secret)), false, entry.name);
      assert.equal(bytes.includes(Buffer.from(secret).toString('base64url')), false, entry.name);
    }
  }
});

test('the same keys and checkpoint give the same bundle byte for byte; another seed gives another', async (t) => {
  const folder = await temporaryFolder(t);
  const keys = createOwnerKeys({ lockSeed: new Uint8Array(32).fill(3) });
  const digest = async (name: string): Promise<string[]> => {
    const files = await readdir(join(folder, name), { recursive: true, withFileTypes: true });
    const paths = files
      .filter((file) => file.isFile())
      .map((file) => join(file.parentPath, file.name))
      .sort();
    return Promise.all(
      paths.map(async (path) =>
        createHash('sha256')
          .update(await readFile(path))
          .digest('hex'),
      ),
    );
  };
  const first = await lockModel({ checkpoint: tinyCheckpoint(), outDir: join(folder, 'a'), keys });
  const second = await lockModel({ checkpoint: tinyCheckpoint(), outDir: join(folder, 'b'), keys });
  assert.equal(first.bundleId, second.bundleId);
  assert.deepEqual(await digest('a'), await digest('b'));
  const seeded = await lockModel({ checkpoint: tinyCheckpoint(), outDir: join(folder, 'c'), seed: keys.lockSeed });
  assert.deepEqual(seeded.keys.lockSeed, keys.lockSeed);
  const data = (name: string): Promise<Buffer> => readFile(join(folder, name, 'segments', '00.data'));
  assert.deepEqual(await data('c'), await data('a'));
  await lockModel({ checkpoint: tinyCheckpoint(), outDir: join(folder, 'd') });
  assert.notDeepEqual(await data('d'), await data('a'));
});

test('an existing bundle is never overwritten', async (t) => {
  const outDir = join(await temporaryFolder(t), 'model.lock');
  await mkdir(outDir);
  await writeFile(join(outDir, 'precious'), '');
  await assert.rejects(lockModel({ checkpoint: tinyCheckpoint(), outDir }), {
    kind: 'environment',
    code: 'bundle-exists',
  });
  assert.deepEqual(await readdir(outDir), ['precious']);
});

test('a lock that fails half way leaves nothing behind', async (t) => {
  const folder = await temporaryFolder(t);
  const checkpoint = tinyCheckpoint();
  let reads = 0;
  const tensors = {
    ...checkpoint.tensors,
    read: (name: string) => {
      if (++reads === 5) throw new MalformedError('tensor-truncated', `tensor ${name} is truncated`);
      return checkpoint.tensors.read(name);
    },
  };
  const outDir = join(folder, 'model.lock');
  await assert.rejects(lockModel({ checkpoint: { ...checkpoint, tensors }, outDir }), { code: 'tensor-truncated' });
  assert.deepEqual(await readdir(folder), []);
  const file = join(folder, 'file');
  await writeFile(file, '');
  await assert.rejects(lockModel({ checkpoint, outDir: join(file, 'x.lock') }), {
    kind: 'environment',
    code: 'bundle-write',
  });
  assert.ok(existsSync(file));
});

test('NaN and infinity in a weight are refused by tensor and element, and nothing is left', async (t) => {
  const folder = await temporaryFolder(t);
  const outDir = join(folder, 'model.lock');
  const bad = 'model.layers.1.mlp.down_proj.weight';
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const checkpoint = tinyCheckpoint();
    const read = async (name: string): Promise<Float32Array> => {
      const values = (await checkpoint.tensors.read(name)).slice();
      if (name === bad) values[17] = value;
      return values;
    };
    await assert.rejects(
      lockModel({ checkpoint: { ...checkpoint, tensors: { ...checkpoint.tensors, read } }, outDir }),
      {
        kind: 'malformed',
        code: 'weight-not-finite',
        message: new RegExp(`${bad}.*${value}.*element 17`),
      },
    );
    assert.deepEqual(await readdir(folder), []);
  }
});

test('a full disk is named, and the half-written folder is gone', async (t) => {
  const folder = await temporaryFolder(t);
  const fill = async (inside: string): Promise<never> => {
    await writeFile(join(inside, 'half'), 'x');
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  };
  const writing = writeBundle(join(folder, 'model.lock'), createOwnerKeys(), fill);
  await assert.rejects(writing, { kind: 'environment', code: 'disk-full' });
  assert.deepEqual(await readdir(folder), []);
});
