// The platform adapters against played kernels: what they write, what they refuse, and that they leave nothing behind.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { deviceFiles } from '../../src/trusted/platform/device-files.js';
import type { Adapter } from '../../src/trusted/platform/open-port.js';
import { openSgx } from '../../src/trusted/platform/sgx.js';
import { openStateFile } from '../../src/trusted/platform/state-file.js';
import { openTsm } from '../../src/trusted/platform/tsm.js';
import { openVmState } from '../../src/trusted/platform/vm-state.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import {
  DCAP,
  FakeTsm,
  type FakeTsmOptions,
  fakeGramine,
  kernelError,
  snpReport,
  TSM,
  tdxQuote,
} from './fake-devices.js';

const reportData = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
const other = new Uint8Array(64).fill(0xee);
const memory = openVmState('', '');

function opened(kind: 'tdx' | 'snp', options: FakeTsmOptions): { adapter: Adapter; tsm: FakeTsm } {
  const tsm = new FakeTsm(options);
  return { tsm, adapter: openTsm(kind, memory, tsm, TSM) };
}
const code = (expected: string) => (error: unknown) => {
  assert.equal((error as { code?: string }).code, expected, String(error));
  return true;
};

test('TDX: the quote is over the report data, in version 4 and 5, and the folder is gone', () => {
  for (const version of [4, 5] as const) {
    const { adapter, tsm } = opened('tdx', { provider: 'tdx_guest', report: (data) => tdxQuote(data, version) });
    assert.deepEqual(Buffer.from(adapter.quote(reportData)), Buffer.from(tdxQuote(reportData, version)));
    assert.equal(adapter.kind, 'tdx');
    assert.equal(tsm.folders.size, 0);
    adapter.quote(other);
    assert.equal(new Set(tsm.made).size, 2, 'every request has a folder of its own');
  }
});

test('SEV-SNP: asks at the privilege floor, appends the certificate table, which may be empty', () => {
  for (const floor of [0, 2])
    for (const certificates of [new Uint8Array(0), new Uint8Array(3000).fill(5)]) {
      const { adapter, tsm } = opened('snp', { provider: 'sev_guest', floor, certificates });
      const expected = Buffer.concat([snpReport(reportData, floor), certificates]);
      assert.deepEqual(Buffer.from(adapter.quote(reportData)), expected);
      assert.equal(tsm.folders.size, 0);
    }
});

const moments = [
  ['write', 'inblob'],
  ['write', 'privlevel'],
  ['read', 'outblob'],
  ['read', 'auxblob'],
] as const;
for (const [operation, name] of moments) {
  const meddle = (times: number): FakeTsmOptions => {
    let left = times;
    return {
      provider: 'sev_guest',
      before: (now, what, folder, tsm) => {
        if (now !== operation || what !== name || left === 0) return;
        left = left - 1;
        const mine = left;
        left = 0; // The meddler's own write is not meddled with.
        tsm.write(`${folder}/inblob`, other);
        left = mine;
      },
    };
  };
  test(`another writer before the ${operation} of ${name}: asked again in a new folder, a bounded number of times`, () => {
    const once = opened('snp', meddle(1));
    assert.deepEqual(Buffer.from(once.adapter.quote(reportData)), Buffer.from(snpReport(reportData, 0)));
    assert.equal(once.tsm.made.length, 2);
    assert.equal(once.tsm.folders.size, 0);
    const always = opened('snp', meddle(1e9));
    assert.throws(() => always.adapter.quote(reportData), code('quote-contended'));
    assert.equal(always.tsm.made.length, 5);
    assert.equal(always.tsm.folders.size, 0);
  });
}

test('a busy or interrupted kernel is asked again; any other failure is final, and the folder goes in either case', () => {
  for (const [failure, quotes] of [
    ['EINTR', true],
    ['EAGAIN', true],
    ['EBUSY', true],
    ['EIO', false],
    ['ETIMEDOUT', false],
  ] as const) {
    let failed = false;
    const { adapter, tsm } = opened('tdx', {
      provider: 'tdx_guest',
      report: (data) => {
        if (!failed) {
          failed = true;
          throw kernelError(failure);
        }
        return tdxQuote(data);
      },
    });
    if (quotes) adapter.quote(reportData);
    else assert.throws(() => adapter.quote(reportData), code('quote-failed'));
    assert.equal(tsm.made.length, quotes ? 2 : 1);
    assert.equal(tsm.folders.size, 0);
  }
});

test("another platform's provider, and none", () => {
  for (const [kind, provider] of [
    ['tdx', 'sev_guest'],
    ['snp', 'tdx_guest'],
  ] as const) {
    const { adapter, tsm } = opened(kind, { provider });
    assert.throws(() => adapter.quote(reportData), code('tsm-provider'));
    assert.equal(tsm.folders.size, 0);
  }
  assert.throws(() => opened('tdx', { provider: null }).adapter.quote(reportData), code('platform-missing'));
});

test('a report that is short, long, of an unknown version or over other bytes is refused', () => {
  const report = (kind: 'tdx' | 'snp', made: Uint8Array): Adapter =>
    opened(kind, { provider: kind === 'tdx' ? 'tdx_guest' : 'sev_guest', report: () => made }).adapter;
  const cases: readonly (readonly ['tdx' | 'snp', Uint8Array, string])[] = [
    ['snp', new Uint8Array(0), 'quote-form'],
    ['snp', snpReport(reportData, 0).subarray(0, 1183), 'quote-form'],
    ['snp', new Uint8Array(1185), 'quote-form'],
    ['snp', snpReport(other, 0), 'quote-other'],
    ['tdx', new Uint8Array(0), 'quote-form'],
    ['tdx', new Uint8Array(4000).fill(3), 'quote-form'],
    ['tdx', tdxQuote(reportData).subarray(0, 568 + 63), 'quote-other'],
    ['tdx', tdxQuote(other), 'quote-other'],
  ];
  for (const [kind, made, expected] of cases) assert.throws(() => report(kind, made).quote(reportData), code(expected));
});

test('the generation may wrap around; a counter that is stuck is a contended request', () => {
  const last = 2n ** 64n - 1n;
  for (const generation of [last - 1n, last]) {
    const { adapter } = opened('snp', { provider: 'sev_guest', generation });
    assert.deepEqual(Buffer.from(adapter.quote(reportData)), Buffer.from(snpReport(reportData, 0)));
  }
  // Written 2^64 - 1 times without a read: the kernel takes nothing more, and configfs does not say so for inblob.
  for (const [kind, provider] of [
    ['tdx', 'tdx_guest'],
    ['snp', 'sev_guest'],
  ] as const) {
    const { adapter, tsm } = opened(kind, {
      provider,
      generation: 6n,
      readGeneration: 7n,
      before: (_, name, folder) => {
        if (name === 'outblob') tsm.folders.get(folder)!.inblob = reportData;
      },
    });
    assert.throws(() => adapter.quote(reportData), code('quote-contended'));
    assert.equal(tsm.folders.size, 0);
  }
});

test('a folder that a killed process left behind disturbs nobody and is not touched', () => {
  const { adapter, tsm } = opened('tdx', { provider: 'tdx_guest' });
  const left = `${TSM}/distillock-0011223344556677`;
  tsm.makeDir(left);
  tsm.write(`${left}/inblob`, other);
  assert.deepEqual(Buffer.from(adapter.quote(reportData)), Buffer.from(tdxQuote(reportData)));
  assert.deepEqual([...tsm.folders.keys()], [left]);
});

test('SGX: the quote is over the report data; the sealing key is derived from the enclave key', async (t) => {
  const state = openStateFile(join(await temporaryFolder(t), 'state'));
  const key = Uint8Array.from({ length: 16 }, (_, i) => 200 + i);
  const sgx = openSgx(state, fakeGramine({ type: 'dcap', key }), DCAP);
  assert.equal(sgx.kind, 'sgx');
  assert.deepEqual(Buffer.from(sgx.quote(reportData).subarray(368, 432)), Buffer.from(reportData));
  assert.deepEqual(Buffer.from(sgx.quote(other).subarray(368, 432)), Buffer.from(other));
  // RFC 5869 by hand: an empty salt is 32 zero bytes.
  const extracted = createHmac('sha256', new Uint8Array(32)).update(key).digest();
  const expected = createHmac('sha256', extracted).update('distillock sealing key v1 sgx').update(Uint8Array.of(1));
  assert.deepEqual(Buffer.from(sgx.sealingKey), expected.digest());
});

test('SGX: no Gramine, another attestation type, no sealing key, a second caller', () => {
  const state = memory.state;
  const open = (options: Parameters<typeof fakeGramine>[0]): Adapter => openSgx(state, fakeGramine(options), DCAP);
  assert.throws(() => open({ type: null }), code('platform-missing'));
  assert.throws(() => open({ type: 'none' }), code('attestation-type'));
  assert.throws(() => open({ type: 'epid' }), code('attestation-type'));
  for (const length of [0, 15, 32])
    assert.throws(() => open({ type: 'dcap', key: new Uint8Array(length) }), code('sealing-key'));
  const disturbed = open({ type: 'dcap', beforeQuote: (files) => files.write(`${DCAP}/user_report_data`, other) });
  assert.throws(() => disturbed.quote(reportData), code('quote-other'));
});

const DEVICES = '/dev/attestation';

test('on this machine, which is no enclave, the real files say so', {
  skip: existsSync(DEVICES) && 'an enclave',
}, () => {
  assert.throws(() => openSgx(memory.state), code('platform-missing'));
});

test('the real device files: one write into what exists, folders for their owner only', async (t) => {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'inblob');
  assert.throws(() => deviceFiles.read(file), code('ENOENT'));
  await writeFile(file, 'before, and longer than what is written now, by a few bytes or more');
  deviceFiles.write(file, reportData);
  assert.deepEqual(await readFile(file), Buffer.from(reportData));
  assert.deepEqual(Buffer.from(deviceFiles.read(file)), Buffer.from(reportData));
  const made = join(folder, 'distillock-1');
  deviceFiles.makeDir(made);
  if (process.platform !== 'win32') assert.equal((await stat(made)).mode & 0o777, 0o700);
  assert.throws(() => deviceFiles.makeDir(made), code('EEXIST'));
  deviceFiles.removeDir(made);
  await assert.rejects(stat(made), code('ENOENT'));
  // Where configfs-tsm is not mounted.
  assert.throws(
    () => openTsm('tdx', memory, deviceFiles, join(folder, 'none')).quote(reportData),
    code('platform-missing'),
  );
});

test('a confidential VM without a key file keeps its state in memory; with one, across restarts', async (t) => {
  const folder = await temporaryFolder(t);
  const stateFile = join(folder, 'sealed-state.bin');
  const volatile = openVmState(stateFile, '');
  assert.deepEqual(volatile.state.load(), []);
  volatile.state.save(other, 1);
  volatile.state.save(reportData, 2);
  assert.deepEqual(volatile.state.load(), [reportData]);
  await assert.rejects(stat(stateFile), code('ENOENT'));
  assert.notDeepEqual(openVmState(stateFile, '').sealingKey, volatile.sealingKey);

  const keyFile = join(folder, 'sealing.key');
  const first = openVmState(stateFile, keyFile);
  first.state.save(reportData, 1);
  const second = openVmState(stateFile, keyFile);
  assert.equal(first.sealingKey.length, 32);
  assert.deepEqual(Buffer.from(second.sealingKey), Buffer.from(first.sealingKey));
  assert.deepEqual(
    second.state.load().map((bytes) => [...bytes]),
    [[...reportData]],
  );
  if (process.platform === 'win32') return;
  assert.equal((await stat(keyFile)).mode & 0o777, 0o600);
  await chmod(keyFile, 0o640);
  assert.throws(() => openVmState(stateFile, keyFile), code('sealing-key'));
  await chmod(keyFile, 0o600);
  for (const length of [0, 31, 33]) {
    await writeFile(keyFile, new Uint8Array(length));
    assert.throws(() => openVmState(stateFile, keyFile), code('sealing-key'));
  }
});
