// The sealed state on disk: a crash anywhere in a save leaves the state before it, two enclaves never share one, destroy leaves nothing.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { encodeLicence } from '../../src/owner/encode-grant.js';
import { openAccount, sealRecord } from '../../src/trusted/enclave/record.js';
import { openStateFile, SLOT_BYTES } from '../../src/trusted/platform/state-file.js';
import { MAX_LICENCES, MAX_RECEIPT_BYTES } from '../../src/trusted/wire/limits.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { Driver, type FakeBundle, fakeBundle } from './fake-port.js';

/** A bundle whose state lies in a file; `saved` collects every sealed record. */
async function onDisk(t: TestContext): Promise<{ path: string; restart: () => Driver; saved: Uint8Array[] }> {
  const path = join(await temporaryFolder(t), 'sealed-state.bin');
  const bundle = await fakeBundle();
  const saved: Uint8Array[] = [];
  function restart(): Driver {
    const file = openStateFile(path);
    const saveState = (bytes: Uint8Array, version: number): void => {
      file.save(bytes, version);
      saved.push(bytes);
    };
    // Everything else, the clock too, stays that of the fake.
    const port: FakeBundle['port'] = Object.assign(Object.create(bundle.port), { loadState: file.load, saveState });
    return new Driver({ ...bundle, port });
  }
  return { path, restart, saved };
}

/** Unlocked, with `charges` positions released one by one. */
async function charged(driver: Driver, charges: number): Promise<number> {
  driver.expect('unlock', await driver.grant());
  const session = driver.session();
  driver.authorise(session, new Array<number>(10).fill(3));
  for (let i = 0; i < charges; i++) assert.equal(typeof driver.release(session, 1), 'object');
  return session;
}

const chargedTokens = (driver: Driver): number | undefined => driver.status().licence?.chargedTokens;

test('state is saved whole, private, and loaded by the next start; the file does not grow', async (t) => {
  const path = join(await temporaryFolder(t), 'sealed-state.bin');
  const file = openStateFile(path);
  assert.deepEqual(file.load(), []);
  for (const [i, value] of [1, 2, 3].entries()) file.save(new Uint8Array(5000).fill(value), i + 1);
  const slots = openStateFile(path).load();
  assert.deepEqual(new Set(slots.map((slot) => `${slot.length} × ${slot[0]}`)), new Set(['5000 × 2', '5000 × 3']));
  const { mode, size } = await stat(path);
  assert.deepEqual([mode & 0o777, size], [0o600, 2 * SLOT_BYTES]);
  assert.deepEqual(await readdir(join(path, '..')), ['sealed-state.bin']);
});

test('a slot holds the largest record there is, and refuses a larger one', async (t) => {
  const licence = {
    licenceId: 'l'.repeat(64),
    bundleId: 'b'.repeat(64),
    budgetTokens: 1e15,
    leaseTokens: 1e15,
    topK: 1 << 20,
    precision: 'float32',
    temperature: { min: 999.9999999999999, max: 999.9999999999999 },
    notBefore: 253402300799,
    expires: 253402300799,
    enclaveKeyId: 'k'.repeat(43),
  } as const;
  encodeLicence(licence); // Throws if a term were out of range.
  const key = new Uint8Array(32);
  const keys = { signingSecret: key, signingKey: key, bundleKey: key, lastTime: 1 };
  const account = { ...openAccount(licence), chargedTokens: Number.MAX_SAFE_INTEGER };
  const path = join(await temporaryFolder(t), 'sealed-state.bin');
  const file = openStateFile(path);
  const largest = sealRecord(
    { kind: 'live', ...keys, accounts: new Array(MAX_LICENCES).fill(account) },
    1,
    key,
    'b'.repeat(64),
  );
  file.save(largest, 1);
  file.save(sealRecord({ kind: 'destroyed', receipt: new Uint8Array(MAX_RECEIPT_BYTES) }, 2, key, 'b'.repeat(64)), 2);
  assert.throws(() => file.save(new Uint8Array(SLOT_BYTES - 3), 3), { kind: 'environment', code: 'state-size' });
  assert.deepEqual(openStateFile(path).load()[1], largest);
});

test('a second enclave on the same state makes the first refuse to save', async (t) => {
  const path = join(await temporaryFolder(t), 'sealed-state.bin');
  const first = openStateFile(path);
  const early = openStateFile(path);
  first.save(new Uint8Array(100).fill(1), 1);
  assert.throws(() => early.save(new Uint8Array(100).fill(4), 1), { kind: 'environment', code: 'state-changed' });
  const second = openStateFile(path);
  second.save(new Uint8Array(100).fill(2), 2);
  for (const version of [2, 3]) {
    const refused = () => first.save(new Uint8Array(100).fill(3), version);
    assert.throws(refused, { kind: 'environment', code: 'state-changed' });
  }
  assert.deepEqual(
    openStateFile(path)
      .load()
      .map((slot) => slot[0]),
    [2, 1],
  );
});

test('a first save that fails leaves nothing, one that was interrupted is not in the way', async (t) => {
  const path = join(await temporaryFolder(t), 'sealed-state.bin');
  const file = openStateFile(path);
  await mkdir(`${path}.new`);
  assert.throws(() => file.save(Uint8Array.of(1), 1), { code: 'EISDIR' });
  assert.equal(existsSync(path), false);
  await rmdir(`${path}.new`);
  await writeFile(`${path}.new`, 'torn by a crash');
  file.save(Uint8Array.of(1), 1);
  assert.deepEqual(openStateFile(path).load(), [Uint8Array.of(1)]);
});

test('a file of another size or with other contents is refused by name', async (t) => {
  const { path, restart } = await onDisk(t);
  await writeFile(path, 'a sealed state of another program');
  assert.throws(restart, { kind: 'malformed', code: 'state-file' });
  await writeFile(path, new Uint8Array(2 * SLOT_BYTES).fill(7));
  assert.throws(restart, { kind: 'verification', code: 'sealed-state' });
});

test('a save torn at any byte, or with any of its sectors missing, leaves the count before it, and the next saves succeed', async (t) => {
  const { path, restart } = await onDisk(t);
  const session = await charged(restart(), 2);
  const before = new Uint8Array(await readFile(path));
  const writer = restart();
  const again = writer.session();
  writer.authorise(again, [1]);
  writer.release(again, 1);
  const after = new Uint8Array(await readFile(path));
  const changed = after.map((byte, i) => (byte === before[i] ? 0 : 1));
  const [from, to] = [changed.indexOf(1), changed.lastIndexOf(1) + 1];
  assert.ok(session > 0 && to - from > 300 && Math.floor(from / SLOT_BYTES) === Math.floor((to - 1) / SLOT_BYTES));

  async function startsFrom(content: Uint8Array, expected: number): Promise<void> {
    await writeFile(path, content);
    assert.equal(chargedTokens(restart()), expected);
  }
  await startsFrom(before, 2);
  await startsFrom(after, 3);
  for (let cut = from + 1; cut < to; cut++) {
    const torn = before.slice();
    torn.set(after.subarray(from, cut), from);
    await startsFrom(torn, 2);
  }
  // Sectors reach the disk in any order.
  const sectors = Array.from({ length: Math.ceil((to - from) / 64) }, (_, i) => from + 64 * i);
  await fc.assert(
    fc.asyncProperty(fc.subarray(sectors), async (written) => {
      const torn = before.slice();
      for (const at of written) torn.set(after.subarray(at, Math.min(at + 64, to)), at);
      await startsFrom(torn, written.length === sectors.length ? 3 : 2);
    }),
    { numRuns: 100 },
  );
  // Two more saves, both slots: the torn one is written first.
  const torn = before.slice();
  torn.set(after.subarray(from, from + 100), from);
  await writeFile(path, torn);
  for (const expected of [3, 4, 5]) {
    const driver = restart();
    const next = driver.session();
    driver.authorise(next, [1]);
    assert.equal(typeof driver.release(next, 1), 'object');
    assert.equal(chargedTokens(restart()), expected);
  }
});

test('a restart after a failed save goes on with what was saved', async (t) => {
  const { path, restart } = await onDisk(t);
  const driver = restart();
  const session = await charged(driver, 1);
  const whole = await readFile(path);
  await writeFile(path, whole.subarray(0, SLOT_BYTES));
  assert.equal(driver.release(session, 1), 'state-not-saved');
  await writeFile(path, whole);
  assert.notEqual(typeof driver.release(session, 1), 'string');
  assert.equal(chargedTokens(restart()), 2);
});

test('destroy overwrites every earlier record, also when the first of its two writes was its last', async (t) => {
  const { path, restart, saved } = await onDisk(t);
  const driver = restart();
  await charged(driver, 4);
  for (const licenceId of ['licence-2', 'licence-3'])
    driver.expect('unlock', await driver.grant({ licenceId, budgetTokens: 5 }));
  const live = [...saved];
  /** Pieces of earlier records that are still in the file. */
  const left = async (): Promise<number> => {
    const file = await readFile(path);
    const pieces = live.flatMap((bytes) =>
      Array.from({ length: bytes.length / 16 }, (_, i) => bytes.subarray(16 * i, 16 * i + 16)),
    );
    return pieces.filter((piece) => file.includes(Buffer.from(piece))).length;
  };
  assert.ok((await left()) > 0, 'the search finds a record that is there');
  const before = await readFile(path);
  const receipt = driver.expect('destroy');
  assert.equal(await left(), 0);
  assert.deepEqual(restart().expect('destroy'), receipt);

  // The machine dies between the two writes: the older live record is still there, and is of no use.
  const half = Buffer.from(before);
  const after = await readFile(path);
  const slot = (live.length + 1) % 2;
  after.copy(half, slot * SLOT_BYTES, slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);
  await writeFile(path, half);
  assert.ok((await left()) > 0);
  const restarted = restart();
  assert.equal(restarted.status().state, 'destroyed');
  assert.deepEqual(restarted.expect('destroy'), receipt);
  assert.equal(await left(), 0);
});
