// Recorded SNP reports against the verdicts of cases.json, and the tampered variants its README lists.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { AMD_ROOTS } from '../../src/attest/snp/amd-roots.js';
import { parseCertificates, type SnpEndorsement } from '../../src/attest/snp/endorsement.js';
import { parseSnpReport } from '../../src/attest/snp/report.js';
import { verifySnpReport } from '../../src/attest/snp/verify.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';

interface Case {
  readonly id: string;
  readonly kind: string;
  readonly report: string;
  readonly vek: string;
  readonly chain: string;
  readonly signer: 'vcek' | 'vlek';
  readonly now: number;
  readonly signatures?: 'valid';
  readonly debug?: boolean;
  readonly vmpl?: number;
  readonly reportedTcb?: { readonly bl: number; readonly tee: number; readonly snp: number; readonly ucode: number };
  readonly measurement?: string;
}

const folder = join('test', 'fixtures', 'attestation');
const read = (path: string): Uint8Array => readFileSync(join(folder, path));
const { cases } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as { cases: Case[] };
const snp = cases.filter(({ kind }) => kind === 'snp');
const endorsementOf = ({ vek, chain }: Case): SnpEndorsement => ({ leaf: read(vek), chain: [read(chain)] });
const judge = (report: Uint8Array, endorsement: SnpEndorsement, now: number) =>
  verifySnpReport(parseSnpReport(report), { now, endorsement });
const code = (expected: string | readonly string[]) => (error: unknown) =>
  error instanceof DistillockError && [expected].flat().includes(error.code);

/** Why the refused cases are refused. */
const REFUSED: Record<string, string> = {
  'snp-vlek-expired': 'certificate-time',
  'snp-wrong-vcek': 'snp-tcb',
  'snp-invalid-vcek': 'certificate-signature',
  'snp-wrong-chain': 'snp-root',
};

test('cases.json has the SNP cases', () => {
  assert.equal(snp.length, 7);
});

for (const item of snp) {
  test(`vector ${item.id}`, () => {
    const refused = REFUSED[item.id];
    if (refused !== undefined) {
      assert.equal(item.signatures, undefined);
      assert.throws(() => judge(read(item.report), endorsementOf(item), item.now), code(refused));
      return;
    }
    assert.equal(item.signatures, 'valid');
    const { platform, reportData } = judge(read(item.report), endorsementOf(item), item.now);
    assert.equal(platform.product, 'Milan');
    assert.equal(platform.signedBy, item.signer.toUpperCase());
    assert.equal(platform.policy.debug, item.debug);
    assert.equal(platform.policy.smt, true);
    assert.equal(platform.policy.migrateMa, false);
    assert.equal(platform.vmpl, item.vmpl);
    assert.deepEqual(reportData, new Uint8Array(read(item.report).subarray(0x50, 0x90)));
    if (item.measurement !== undefined) assert.equal(platform.measurement, item.measurement);
    if (item.reportedTcb !== undefined) {
      const { bl, tee, snp: firmware, ucode } = item.reportedTcb;
      assert.deepEqual(platform.reportedTcb, { fmc: null, bootLoader: bl, tee, snp: firmware, microcode: ucode });
    }
  });
}

for (const item of snp.filter(({ signatures }) => signatures === 'valid')) {
  test(`tampered variants of ${item.id} are refused`, () => {
    const endorsement = endorsementOf(item);
    const original = read(item.report);
    judge(original, endorsement, item.now);
    const changed = (offset: number, mask: number): Uint8Array => {
      const copy = new Uint8Array(original);
      copy[offset]! ^= mask;
      return copy;
    };
    const refuse = (report: Uint8Array, expected: string | readonly string[]) =>
      assert.throws(() => judge(report, endorsement, item.now), code(expected));
    for (const offset of [0x50, 0x8f, 0x90, 0xbf, 0xc0, 0x2a0, 0x2cf, 0x2e8, 0x317])
      refuse(changed(offset, 1), 'snp-signature');
    refuse(changed(0x0a, 8), 'snp-signature'); // DEBUG
    refuse(changed(0x0a, 2), 'snp-report'); // Reserved bit 17, always one.
    refuse(changed(0x180, 1), 'snp-tcb');
    refuse(changed(0x187, 0x80), 'snp-tcb');
    refuse(changed(0x1a0, 1), item.signer === 'vcek' ? 'snp-chip' : 'snp-signature');
    for (let i = 48; i < 72; i++) {
      refuse(changed(0x2a0 + i, 1), 'snp-report');
      refuse(changed(0x2e8 + i, 1), 'snp-report');
    }
    refuse(changed(0x330, 1), 'snp-report');
    refuse(changed(0x49f, 1), 'snp-report');
    refuse(changed(0x48, 4), 'snp-leaf'); // The other kind of key.
    refuse(changed(0x48, 2), 'snp-unsigned');
    for (const product of ['genoa', 'turin']) {
      const chain = [read(`snp/chain-${product}.pem`)];
      assert.throws(() => judge(original, { ...endorsement, chain }, item.now), code('snp-root'));
    }
    for (const now of [Number.NaN, undefined as unknown as number, 1.5, -1, '1748736000' as unknown as number]) {
      assert.throws(() => judge(original, endorsement, now), code('now'));
    }
    assert.throws(() => judge(original, endorsement, 1_600_000_000), code('certificate-time'));
    assert.throws(() => judge(original, endorsement, 2_000_000_000), code('certificate-time'));
    const roots = { ...AMD_ROOTS, Milan: AMD_ROOTS.Genoa };
    const options = { now: item.now, endorsement, roots };
    assert.throws(() => verifySnpReport(parseSnpReport(original), options), code('snp-root'));
  });
}

test('chains of every product hold, and a chain may be given in any order or with others', () => {
  const item = snp.find(({ id }) => id === 'snp-ok')!;
  const all = ['turin', 'genoa', 'milan'].map((product) => read(`snp/chain-${product}.pem`));
  judge(read(item.report), { leaf: read(item.vek), chain: all }, item.now);
  for (const [product, pem] of [
    ['Turin', all[0]!],
    ['Genoa', all[1]!],
    ['Milan', all[2]!],
  ] as const) {
    const [ask, ark, asvk] = parseCertificates(pem, 'chain');
    assert.equal(ark!.spkiSha256, AMD_ROOTS[product]);
    assert.equal(ask!.commonName, `SEV-${product}`);
    assert.equal(asvk!.commonName, `SEV-VLEK-${product}`);
  }
});
