// Atomic writes, the run lock and metrics.jsonl.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openMetrics, readMetrics } from '../../src/edge/metrics.js';
import { writeFileAtomic } from '../../src/model/files.js';
import { lockRunFolder } from '../../src/model/run-lock.js';

const root = mkdtempSync(join(tmpdir(), 'distillock-files-'));
after(() => rmSync(root, { recursive: true, force: true }));

test('a file appears whole, with its folder, and replaces the old one', async () => {
  const file = join(root, 'new/folder/x.bin');
  await writeFileAtomic(file, 'ab', Uint8Array.of(99));
  assert.equal(readFileSync(file, 'utf8'), 'abc');
  await writeFileAtomic(file, 'z');
  assert.equal(readFileSync(file, 'utf8'), 'z');
  assert.deepEqual(readdirSync(join(root, 'new/folder')), ['x.bin']);
});

test('a failed write keeps the old content, leaves no temporary file and names the path', async () => {
  const target = join(root, 'taken');
  mkdirSync(join(target, 'inside'), { recursive: true });
  await assert.rejects(writeFileAtomic(target, 'x'), { kind: 'environment', message: /cannot write .*taken/ });
  assert.deepEqual(
    readdirSync(root).filter((name) => name.endsWith('.tmp')),
    [],
  );
  writeFileSync(join(root, 'plain'), 'old');
  await assert.rejects(writeFileAtomic(join(root, 'plain/child'), 'x'), { kind: 'environment' });
  assert.equal(readFileSync(join(root, 'plain'), 'utf8'), 'old');
});

test('a full disk is an error that says so, and the old content stays', {
  skip: !existsSync('/dev/full'),
}, async () => {
  const metrics = await openMetrics(join(root, 'm-full.jsonl'), null);
  rmSync(join(root, 'm-full.jsonl'));
  symlinkSync('/dev/full', join(root, 'm-full.jsonl'));
  assert.throws(() => metrics.append({ step: 1 }), { code: 'disk-full', message: /the disk is full/ });
});

test('a second run in the same folder is refused and told who has it', async () => {
  const folder = join(root, 'run');
  const release = await lockRunFolder(folder);
  await assert.rejects(lockRunFolder(folder), { code: 'run-locked', message: new RegExp(`process ${process.pid} on`) });
  await release();
  await (await lockRunFolder(folder))();
  assert.deepEqual(readdirSync(folder), []);
});

test('the lock of a process that died does not block the next run', async () => {
  const folder = join(root, 'crashed');
  mkdirSync(join(folder, '.run.lock'), { recursive: true });
  const dead = spawnSync(process.execPath, ['-e', '']).pid;
  writeFileSync(join(folder, '.run.json'), JSON.stringify({ pid: dead, host: hostname() }));
  await (await lockRunFolder(folder))();
  mkdirSync(join(folder, '.run.lock'));
  writeFileSync(join(folder, '.run.json'), JSON.stringify({ pid: dead, host: 'another-machine' }));
  await assert.rejects(lockRunFolder(folder), { code: 'run-locked', message: /another-machine/ });
});

test('a resumed run drops metrics after its step and keeps appending', async () => {
  const file = join(root, 'metrics.jsonl');
  const first = await openMetrics(file, null);
  for (const step of [10, 20, 30]) first.append({ step, loss: step / 10, lr: 1e-3 });
  appendFileSync(file, '{"step":40,"lo');
  assert.deepEqual(
    (await readMetrics(file)).map(({ step }) => step),
    [10, 20, 30],
  );
  const second = await openMetrics(file, 20);
  second.append({ step: 30, loss: 9, grad_norm: Number.NaN });
  assert.deepEqual(
    (await readMetrics(file)).map(({ step, loss }) => [step, loss]),
    [
      [10, 1],
      [20, 2],
      [30, 9],
    ],
  );
  assert.match(readFileSync(file, 'utf8'), /"grad_norm":null\}\n$/);
  await openMetrics(file, null);
  assert.deepEqual(await readMetrics(file), []);
  assert.deepEqual(await readMetrics(join(root, 'none.jsonl')), []);
});

test('a broken line in the middle of metrics is an error with its number', async () => {
  const file = join(root, 'broken.jsonl');
  writeFileSync(file, '{"step":1}\nnonsense\n{"step":2}\n');
  await assert.rejects(readMetrics(file), { code: 'metrics-line', message: /:2: / });
});

test('a folder without permission is named', { skip: process.platform === 'win32' }, async () => {
  const folder = join(root, 'closed');
  mkdirSync(folder);
  chmodSync(folder, 0o500);
  // Root may write anywhere: be nobody for the attempt.
  const isRoot = process.getuid?.() === 0;
  if (isRoot) process.seteuid!(65534);
  try {
    await assert.rejects(writeFileAtomic(join(folder, 'x'), 'x'), { code: 'permission' });
  } finally {
    if (isRoot) process.seteuid!(0);
  }
});
