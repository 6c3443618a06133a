// Opening a bundle: any flipped bit, truncation, missing or foreign file is a named error that says which file.
import assert from 'node:assert/strict';
import { cp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { openBundle } from '../../src/edge/bundle.js';
import { loadOwnerPublicKey } from '../../src/edge/owner-key.js';
import { lockModel } from '../../src/owner/lock-checkpoint.js';
import { createOwnerKeys, loadOwnerKeys, saveOwnerKeys, saveOwnerPublicKey } from '../../src/owner/owner-keys.js';
import { signDetached } from '../../src/owner/sign.js';
import type { DistillockError } from '../../src/trusted/wire/errors.js';
import { temporaryFolder, tinyCheckpoint } from './tiny-model.js';

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at]! ^= 1;
  await writeFile(path, bytes);
}

test('damage anywhere in a bundle is found and named', async (t) => {
  const folder = await temporaryFolder(t);
  const good = join(folder, 'good');
  const { keys } = await lockModel({ checkpoint: tinyCheckpoint(), outDir: good });
  const options = { ownerKey: keys.signingKey };
  await openBundle(good, options);
  const listed = (await readdir(good, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const paths = listed.map((entry) => join(entry.parentPath, entry.name).slice(good.length + 1));
  assert.ok(paths.length >= 8);
  const damage: Readonly<Record<string, (path: string, size: number) => Promise<void>>> = {
    'first bit': (path) => flip(path, 0),
    'middle bit': (path, size) => flip(path, size >> 1),
    'last bit': (path, size) => flip(path, size - 1),
    truncated: (path, size) => truncate(path, size - 1),
    empty: (path) => truncate(path, 0),
    longer: (path, size) => truncate(path, size + 1),
    missing: (path) => rm(path),
  };
  for (const path of paths) {
    for (const [what, apply] of Object.entries(damage)) {
      // A line end after the signature is ours to trim, not part of it.
      if (path === 'manifest.jws' && /last bit|truncated|longer/.test(what)) continue;
      const copy = join(folder, 'copy');
      await cp(good, copy, { recursive: true });
      await apply(join(copy, path), (await stat(join(copy, path))).size);
      await assert.rejects(openBundle(copy, options), (error: DistillockError) => {
        assert.ok(['verification', 'malformed'].includes(error.kind), `${path}, ${what}: ${error.stack}`);
        const named = path.startsWith('manifest.') ? 'manifest' : basename(path);
        const jws = error.code.startsWith('jws') || error.code === 'base64url';
        assert.ok(jws || error.message.includes(named), `${path}, ${what}: ${error.message}`);
        return true;
      });
      await rm(copy, { recursive: true });
    }
  }
});

test('a foreign signature, a missing one and another pinned owner are refused, each by name', async (t) => {
  const dir = join(await temporaryFolder(t), 'model.lock');
  const { keys } = await lockModel({ checkpoint: tinyCheckpoint(), outDir: dir });
  const stranger = createOwnerKeys();
  await assert.rejects(openBundle(dir, { ownerKey: stranger.signingKey }), {
    kind: 'verification',
    code: 'bundle-signature',
  });
  const manifest = await readFile(join(dir, 'manifest.json'));
  await writeFile(join(dir, 'manifest.jws'), await signDetached('manifest', manifest, stranger));
  await assert.rejects(openBundle(dir, { ownerKey: keys.signingKey }), { code: 'bundle-signature' });
  await assert.rejects(openBundle(dir, { ownerKey: stranger.signingKey }), { kind: 'verification', code: 'owner-key' });
  await rm(join(dir, 'manifest.jws'));
  await assert.rejects(openBundle(dir, { ownerKey: keys.signingKey }), {
    kind: 'malformed',
    code: 'signature-missing',
  });
  await assert.rejects(openBundle(join(dir, 'nowhere'), { ownerKey: keys.signingKey }), { code: 'manifest-missing' });
});

test('owner keys: secret file is private, reads back, is never overwritten, and its errors quote nothing of it', async (t) => {
  const folder = await temporaryFolder(t);
  const keys = createOwnerKeys();
  const path = join(folder, 'owner-secrets.json');
  await saveOwnerKeys(path, keys);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual(await loadOwnerKeys(path), keys);
  await assert.rejects(saveOwnerKeys(path, createOwnerKeys()), { kind: 'environment', code: 'key-file' });
  assert.deepEqual(await loadOwnerKeys(path), keys);
  const publicPath = join(folder, 'owner-public.json');
  await saveOwnerPublicKey(publicPath, keys);
  assert.deepEqual(await loadOwnerPublicKey(publicPath), keys.signingKey);
  const publicText = await readFile(publicPath, 'utf8');
  for (const secret of [keys.signingSecret, keys.bundleKey, keys.lockSeed]) {
    assert.equal(publicText.includes(Buffer.from(secret).toString('base64url')), false);
  }
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.slice(0, -10));
  await assert.rejects(loadOwnerKeys(path), (error: DistillockError) => {
    assert.equal(error.kind, 'malformed');
    assert.equal(error.cause, undefined);
    assert.equal(error.message.includes(Buffer.from(keys.bundleKey).toString('base64url')), false);
    return true;
  });
  await assert.rejects(loadOwnerPublicKey(path), { code: 'owner-key' });
  await assert.rejects(loadOwnerPublicKey(join(folder, 'none')), { kind: 'environment' });
});
