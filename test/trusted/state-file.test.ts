// The sealed state on disk: whole or old, never shared by two enclaves, never in the way of the next start.
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { openStateFile } from '../../src/trusted/platform/state-file.js';
import { temporaryFolder } from '../owner/tiny-model.js';

test('state is saved whole, private, and loaded by the next start', async (t) => {
  const path = join(await temporaryFolder(t), 'sealed-state.bin');
  const file = openStateFile(path);
  assert.equal(file.load(), null);
  for (const value of [1, 2, 3]) file.save(new Uint8Array(5000).fill(value));
  assert.deepEqual(openStateFile(path).load(), new Uint8Array(5000).fill(3));
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test('a second enclave on the same state makes the first refuse to save', async (t) => {
  const path = join(await temporaryFolder(t), 'sealed-state.bin');
  const first = openStateFile(path);
  first.save(Uint8Array.of(1));
  const second = openStateFile(path);
  second.save(Uint8Array.of(2));
  assert.throws(() => first.save(Uint8Array.of(3)), { kind: 'environment', code: 'state-changed' });
  assert.deepEqual([...(await readFile(path))], [2]);
});

test('a failed or interrupted save keeps the old state, and the next one succeeds', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'sealed-state.bin');
  const file = openStateFile(path);
  file.save(Uint8Array.of(1));
  await mkdir(`${path}.new`);
  assert.throws(() => file.save(Uint8Array.of(2)), { code: 'EISDIR' });
  assert.deepEqual([...(await readFile(path))], [1]);
  await rmdir(`${path}.new`);
  await writeFile(`${path}.new`, 'torn by a crash, and longer than the state');
  file.save(Uint8Array.of(3));
  assert.deepEqual([...(await readFile(path))], [3]);
  assert.deepEqual(await readdir(folder), ['sealed-state.bin']);
});
