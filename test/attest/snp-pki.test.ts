// SNP evidence that has no public vectors, under a test PKI: Genoa, Turin, VLEK, report versions, revocation, the host's table.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';
import { parseSnpQuote } from '../../src/attest/snp/certificate-table.js';
import { verifyEndorsement } from '../../src/attest/snp/endorsement.js';
import { parseSnpReport } from '../../src/attest/snp/report.js';
import type { SnpProduct } from '../../src/attest/snp/tcb.js';
import { verifySnpQuote, verifySnpReport } from '../../src/attest/snp/verify.js';
import { concatBytes } from '../../src/trusted/wire/bytes.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import {
  CHIP,
  chipIdOf,
  type LeafOptions,
  makeChain,
  makeCrl,
  makeLeaf,
  makeReport,
  makeTable,
  NOW,
  type ReportOptions,
  SERIAL,
  type TestChain,
  tcbOf,
} from './amd-test-pki.js';
import { CA_EXTENSIONS, extension } from './x509-writer.js';

const chains = {} as Record<SnpProduct, TestChain>;
before(() => {
  for (const product of ['Milan', 'Genoa', 'Turin'] as const) chains[product] = makeChain(product);
});
const code = (expected: string) => (error: unknown) => error instanceof DistillockError && error.code === expected;

function judge(
  product: SnpProduct,
  leafOptions: LeafOptions = {},
  reportOptions: ReportOptions = {},
  crl?: Uint8Array,
) {
  const chain = chains[product];
  const leaf = makeLeaf(chain, leafOptions);
  const report = parseSnpReport(makeReport(product, leaf.keys, reportOptions));
  return verifySnpReport(report, { now: NOW, endorsement: leaf.endorsement, roots: chain.roots, crl });
}

for (const product of ['Milan', 'Genoa', 'Turin'] as const) {
  for (const version of [2, 3, 4, 5]) {
    test(`${product} report v${version}, VCEK`, () => {
      const { platform, reportData } = judge(product, {}, { version });
      assert.equal(platform.product, product);
      assert.equal(platform.signedBy, 'VCEK');
      assert.equal(platform.guestSvn, 7);
      assert.deepEqual(platform.policy, {
        abiMajor: 1,
        abiMinor: 55,
        smt: true,
        migrateMa: false,
        debug: false,
        singleSocket: false,
      });
      assert.deepEqual(
        platform.reportedTcb,
        product === 'Turin'
          ? { fmc: 1, bootLoader: 3, tee: 1, snp: 23, microcode: 84 }
          : { fmc: null, bootLoader: 3, tee: 1, snp: 23, microcode: 200 },
      );
      assert.equal(platform.measurement, 'aa'.repeat(48));
      assert.equal(reportData[1], 0x81);
    });
  }

  test(`${product} report, VLEK: no chip is named`, () => {
    const { platform } = judge(product, { kind: 'VLEK' }, { signingKey: 1, chipId: new Uint8Array(64) });
    assert.equal(platform.signedBy, 'VLEK');
    assert.equal(platform.chipId, '00'.repeat(64));
  });

  test(`${product}: certificates for another chip, firmware, product or kind are refused`, () => {
    const otherTcb = Uint8Array.from(tcbOf(product));
    otherTcb[7]!--;
    assert.throws(() => judge(product, { tcb: otherTcb }), code('snp-tcb'));
    for (const index of [0, 1, 2, 3, 4, 5, 6, 7]) {
      const tcb = Uint8Array.from(tcbOf(product));
      tcb[index]! ^= 1;
      assert.throws(() => judge(product, {}, { tcb }), code('snp-tcb'));
    }
    const other = Uint8Array.from(CHIP.subarray(0, product === 'Turin' ? 8 : 64));
    other[other.length - 1]! ^= 1;
    assert.throws(() => judge(product, { hwId: other }), code('snp-chip'));
    assert.throws(() => judge(product, { hwId: null }), code('snp-leaf'));
    assert.throws(() => judge(product, {}, { chipId: new Uint8Array(64) }), code('snp-chip'));
    assert.throws(() => judge(product, { kind: 'VLEK' }), code('snp-leaf'));
    assert.throws(() => judge(product, {}, { signingKey: 1 }), code('snp-leaf'));
    assert.throws(() => judge(product, { kind: 'VLEK', hwId: CHIP }, { signingKey: 1 }), code('snp-leaf'));
    assert.throws(() => judge(product, { commonName: 'SEV-OTHER' }), code('snp-leaf'));
    assert.throws(() => judge(product, { productName: 'Rome' }), code('snp-product'));
    assert.throws(() => judge(product, { productName: product === 'Milan' ? 'Genoa' : 'Milan' }), code('snp-root'));
    assert.throws(() => judge(product, { curve: 'P-256' }), code('snp-leaf'));
    const cpuid = product === 'Milan' ? ([0x19, 0x11, 0] as const) : ([0x19, 0x01, 0] as const);
    assert.throws(() => judge(product, {}, { cpuid }), code('snp-product'));
    assert.throws(() => judge(product, {}, { cpuid: [0x17, 1, 0] }), code('snp-product'));
  });

  test(`${product}: revocation is believed only from the root and while current`, () => {
    const chain = chains[product];
    judge(product, {}, {}, makeCrl(chain, [9]));
    judge(product, {}, {}, makeCrl(chain, [SERIAL.asvk]));
    assert.throws(() => judge(product, {}, {}, makeCrl(chain, [SERIAL.ask])), code('certificate-revoked'));
    const vlek = () => judge(product, { kind: 'VLEK' }, { signingKey: 1 }, makeCrl(chain, [SERIAL.asvk]));
    assert.throws(vlek, code('certificate-revoked'));
    const forged = makeCrl(chain, [], { signedBy: chain.askKeys });
    assert.throws(() => judge(product, {}, {}, forged), code('crl-signature'));
    const foreign = makeCrl(chain, [], { issuer: 'SEV-Genoa' });
    assert.throws(() => judge(product, {}, {}, foreign), code('crl-issuer'));
    const stale = makeCrl(chain, [], { nextUpdate: NOW });
    assert.throws(() => judge(product, {}, {}, stale), code('crl-time'));
    assert.throws(() => judge(product, {}, {}, Uint8Array.of(0)), code('der'));
    const bent = Uint8Array.from(makeCrl(chain, [9]));
    bent[bent.length - 1]! ^= 1;
    assert.throws(() => judge(product, {}, {}, bent), code('crl-signature'));
  });
}

test('a hwID that is wrapped in an OCTET STRING is read too', () => {
  judge('Genoa', { hwId: concatBytes(Uint8Array.of(4, 64), CHIP) });
  judge('Turin', { hwId: concatBytes(Uint8Array.of(4, 8), CHIP.subarray(0, 8)) });
  assert.throws(
    () => judge('Turin', { hwId: concatBytes(Uint8Array.of(4, 7), CHIP.subarray(0, 7)) }),
    code('snp-leaf'),
  );
});

test('Turin: bytes behind the 8 of the chip id are refused', () => {
  assert.throws(() => judge('Turin', {}, { chipId: CHIP }), code('snp-chip'));
  judge('Turin', {}, { chipId: chipIdOf('Turin') });
});

test('certificates that demand more than is checked, or are signed by another key, are refused', () => {
  const chain = chains.Genoa;
  const critical = [extension('1.2.3.4', Uint8Array.of(5, 0), true)];
  assert.throws(() => judge('Genoa', { extensions: critical }), code('certificate-extension'));
  judge('Genoa', { extensions: [extension('1.2.3.4', Uint8Array.of(5, 0))] });
  assert.throws(() => judge('Genoa', { extensions: CA_EXTENSIONS }), code('snp-leaf'));
  assert.throws(() => judge('Genoa', { signedBy: chain.rootKeys }), code('certificate-signature'));
  assert.throws(() => judge('Genoa', { notAfter: NOW - 1 }), code('certificate-time'));
  assert.throws(() => judge('Genoa', {}, {}, makeCrl(chain, [], { extensions: critical })), code('crl-extension'));
});

test('unsigned, host-made and future reports are refused', () => {
  assert.throws(() => judge('Genoa', {}, { flags: 2 }), code('snp-unsigned'));
  assert.throws(() => judge('Genoa', {}, { flags: 7 << 2 }), code('snp-unsigned'));
  assert.throws(() => judge('Genoa', {}, { flags: 2 << 2 }), code('snp-report'));
  assert.throws(() => judge('Genoa', {}, { flags: 0x20 }), code('snp-report'));
  assert.throws(() => judge('Genoa', {}, { vmpl: 0xffffffff }), code('snp-report'));
  assert.throws(() => judge('Genoa', {}, { vmpl: 4 }), code('snp-report'));
  assert.throws(() => judge('Genoa', {}, { version: 1 }), code('snp-report'));
  assert.throws(() => judge('Genoa', {}, { version: 6 }), code('snp-version'));
  assert.throws(() => judge('Genoa', {}, { edit: (report) => report.writeUInt32LE(2, 0x34) }), code('snp-algorithm'));
  assert.throws(() => judge('Genoa', {}, { edit: (report) => report.writeUInt8(1, 0x29f) }), code('snp-report'));
});

test('the Turin VCEK of the vectors chains to the Turin root', () => {
  const read = (name: string): Uint8Array => readFileSync(`test/fixtures/attestation/snp/${name}`);
  const roots = { Milan: '', Genoa: '', Turin: '4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08' };
  const endorsement = { leaf: read('vcek-turin.der'), chain: [read('chain-turin.pem')] };
  const leaf = verifyEndorsement(endorsement, { now: NOW, roots });
  assert.equal(leaf.product, 'Turin');
  assert.equal(leaf.hwId?.length, 8);
  assert.deepEqual(leaf.tcb, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 9));
  assert.throws(
    () => verifyEndorsement({ ...endorsement, chain: [read('chain-milan.pem')] }, { now: NOW, roots }),
    code('snp-root'),
  );
});

test("a quote brings the host's certificate table; collateral completes it", () => {
  const chain = chains.Genoa;
  const leaf = makeLeaf(chain);
  const report = makeReport('Genoa', leaf.keys);
  const [ask, ark] = leaf.endorsement.chain as [Uint8Array, Uint8Array];
  const entries = [
    ['other', Uint8Array.of(1)],
    ['vcek', leaf.der],
    ['ask', ask],
    ['ark', ark],
  ] as const;
  const options = { now: NOW, roots: chain.roots };
  const full = parseSnpQuote(concatBytes(report, makeTable(entries)));
  assert.equal(verifySnpQuote(full, options).platform.product, 'Genoa');
  const bare = parseSnpQuote(report);
  assert.throws(() => verifySnpQuote(bare, options), code('snp-endorsement'));
  verifySnpQuote(bare, { ...options, collateral: leaf.endorsement });
  const leafOnly = parseSnpQuote(concatBytes(report, makeTable(entries.slice(0, 2))));
  assert.throws(() => verifySnpQuote(leafOnly, options), code('snp-root'));
  verifySnpQuote(leafOnly, { ...options, collateral: { chain: [ask, ark] } });
  const crl = makeCrl(chain, [SERIAL.ask]);
  assert.throws(() => verifySnpQuote(full, { ...options, collateral: { crl } }), code('certificate-revoked'));
  assert.throws(
    () =>
      parseSnpQuote(
        concatBytes(
          report,
          makeTable([
            ['ask', ask],
            ['ask', ask],
          ]),
        ),
      ),
    code('snp-certificate-table'),
  );
});
