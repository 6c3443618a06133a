// SGX and TDX vectors of real machines: every verdict of cases.json, and everything that must fail when one thing is changed.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { type DcapCollateral, parseDcapCollateral } from '../../src/attest/dcap/collateral.js';
import { INTEL_SGX_ROOT } from '../../src/attest/dcap/intel-chain.js';
import { parseDcapQuote } from '../../src/attest/dcap/quote.js';
import { verifyDcapQuote } from '../../src/attest/dcap/verify-dcap.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import { acceptedCases, type DcapCase, dcapCases, flipBit, isRefused, layoutOf, verifyCase } from './dcap-vectors.js';

type Change = Parameters<typeof verifyCase>[1];

function refuses(vector: DcapCase, change: Change, codes: readonly string[], what: string): void {
  assert.throws(
    () => verifyCase(vector, change),
    (error: unknown) => {
      assert.ok(error instanceof DistillockError, `${what}: ${String(error)}`);
      assert.ok(codes.length === 0 || codes.includes(error.code), `${what}: refused with ${error.code}`);
      return true;
    },
    what,
  );
}

test('the nine cases are there', () => {
  assert.equal(dcapCases.length, 9);
  assert.equal(acceptedCases.length, 7);
});

for (const vector of dcapCases) {
  test(`${vector.id}: ${vector.status ?? 'signatures hold'}`, () => {
    if (isRefused(vector)) {
      refuses(vector, {}, ['tcb-level'], vector.id);
      return;
    }
    const facts = verifyCase(vector);
    assert.equal(facts.kind, vector.kind);
    if (vector.status !== undefined) assert.equal(facts.tcbStatus, vector.status);
    if (vector.advisories !== undefined) assert.deepEqual(facts.advisories, vector.advisories);
    assert.equal(facts.debug, vector.debug);
    assert.ok(facts.collateralIssued <= vector.now && facts.collateralIssued > vector.now - 31 * 86_400);
    if (facts.kind === 'tdx') {
      assert.equal(facts.septVeDisable, true);
      assert.equal(facts.mrServiceTd, '00'.repeat(48));
    } else if (vector.mrenclave !== undefined) {
      assert.equal(facts.mrenclave, vector.mrenclave);
      assert.equal(facts.mrsigner, vector.mrsigner);
      assert.equal(facts.isvProdId, vector.isvprodid);
      assert.equal(facts.isvSvn, vector.isvsvn);
    }
  });
}

test('the report data is the 64 bytes at the end of the report', () => {
  for (const vector of acceptedCases) {
    const { sectionLength } = layoutOf(vector.quoteBytes);
    const quote = parseDcapQuote(vector.quoteBytes);
    const { reportData } = verifyDcapQuote(quote, { now: vector.now, collateral: vector.collateralData });
    // A TD report 1.5 has 64 more bytes behind it.
    const end = quote.version === 5 ? sectionLength - 64 : sectionLength;
    assert.deepEqual(reportData, vector.quoteBytes.slice(end - 64, end));
  }
});

for (const vector of acceptedCases) {
  const { quoteBytes } = vector;
  const { fields, end, sectionLength } = layoutOf(quoteBytes);

  test(`${vector.id}: one bit of any field of the quote`, () => {
    const expected: Record<keyof typeof fields, readonly string[]> = {
      header: ['quote-signature', 'dcap-quote'],
      // In the report of SGX some bytes are reserved.
      body: ['quote-signature', 'dcap-quote'],
      signature: ['quote-signature'],
      key: ['quote-signature', 'public-key'],
      qeReport: ['attestation-key', 'qe-report-signature', 'dcap-quote'],
      qeAuth: ['attestation-key'],
      chain: [],
    };
    for (const [name, [at, size]] of Object.entries(fields) as [keyof typeof fields, [number, number]][]) {
      const step = Math.max(1, Math.floor(size / 24));
      for (let i = 0; i < size; i += step) {
        refuses(vector, { bytes: flipBit(quoteBytes, at + i, i % 8) }, expected[name], `${name} at ${i}`);
      }
    }
  });

  test(`${vector.id}: lengths`, () => {
    const short = Uint8Array.from([...quoteBytes.subarray(0, end - 800), ...quoteBytes.subarray(end)]);
    // Where zero bytes follow, the section takes some of them in and the chain is what breaks.
    refuses(vector, { bytes: short }, ['dcap-quote', 'certificate-chain'], '800 bytes cut');
    const view = new DataView(short.buffer);
    view.setUint32(sectionLength, view.getUint32(sectionLength, true) - 800, true);
    refuses(vector, { bytes: short }, ['dcap-quote'], '800 bytes cut and the length of the section with them');
    refuses(vector, { bytes: Uint8Array.from([...quoteBytes, 1]) }, ['dcap-quote'], 'a byte appended');
    const zero = Uint8Array.from([...quoteBytes, 0]);
    if (quoteBytes[0] === 4) assert.equal(verifyCase(vector, { bytes: zero }).kind, 'tdx');
    else refuses(vector, { bytes: zero }, ['dcap-quote'], 'a zero byte appended');
  });

  test(`${vector.id}: time`, () => {
    const tcb = JSON.parse(vector.collateralData.tcb_info) as { issueDate: string; nextUpdate: string };
    const qe = JSON.parse(vector.collateralData.qe_identity) as { issueDate: string; nextUpdate: string };
    const seconds = (text: string) => Date.parse(text) / 1000;
    const latest = Math.max(seconds(tcb.issueDate), seconds(qe.issueDate));
    const earliest = Math.min(seconds(tcb.nextUpdate), seconds(qe.nextUpdate));
    const windows = ['collateral-window', 'crl-window'];
    refuses(vector, { now: latest - 1 }, windows, 'before the latest issue date');
    refuses(vector, { now: earliest + 1 }, windows, 'after the earliest next update');
    refuses(vector, { now: 0 }, ['certificate-window'], '1970');
    for (const now of [Number.NaN, undefined, Number.POSITIVE_INFINITY, vector.now + 0.5, -1, `${vector.now}`, null]) {
      refuses(vector, { now: now as number }, ['now'], `now = ${String(now)}`);
    }
  });

  test(`${vector.id}: collateral`, () => {
    const { collateralData } = vector;
    const change = (part: Partial<DcapCollateral>, codes: readonly string[], what: string): void =>
      refuses(vector, { collateral: { ...collateralData, ...part } }, codes, what);
    const crl = collateralData.pck_crl;
    const flipped = (Number.parseInt(crl.slice(-2), 16) ^ 1).toString(16).padStart(2, '0');
    change({ pck_crl: '00' }, ['der'], 'pck_crl is 00');
    change({ root_ca_crl: '00' }, ['der'], 'root_ca_crl is 00');
    change({ pck_crl: '' }, ['der'], 'pck_crl is empty');
    change({ pck_crl: crl.slice(0, -2) + flipped }, ['crl-signature'], 'last byte of pck_crl');
    change({ pck_crl: collateralData.root_ca_crl }, ['crl-issuer'], "the root's list in place of the PCK list");
    change({ root_ca_crl: crl }, ['crl-issuer'], "the PCK list in place of the root's");
    const other = acceptedCases.find((one) => one.collateralData.pck_crl !== crl && one.kind !== vector.kind)!;
    const foreign = {
      pck_crl: other.collateralData.pck_crl,
      pck_crl_issuer_chain: other.collateralData.pck_crl_issuer_chain,
    };
    change(foreign, ['crl-issuer', 'crl-window'], "another authority's list with its chain");
    change({ tcb_info: collateralData.tcb_info.replace(':', ': ') }, ['collateral-signature'], 'a space in tcb_info');
    change({ qe_identity: `${collateralData.qe_identity} ` }, ['collateral-signature'], 'a space after qe_identity');
    change({ tcb_info: collateralData.qe_identity }, ['collateral-signature'], 'the texts mixed up');
    change(
      { tcb_info_issuer_chain: collateralData.pck_crl_issuer_chain },
      ['certificate-role'],
      'a PCK authority signs TCB',
    );
    change(
      { pck_crl_issuer_chain: collateralData.tcb_info_issuer_chain },
      ['certificate-role'],
      'the TCB signer as authority',
    );
    const { tcb_info: _, ...incomplete } = collateralData;
    refuses(vector, { collateral: incomplete as DcapCollateral }, ['fields'], 'no tcb_info');
    refuses(vector, { collateral: { ...collateralData, more: '' } as DcapCollateral }, ['fields'], 'an unknown key');
    refuses(vector, { collateral: null as unknown as DcapCollateral }, ['fields'], 'no collateral');
  });
}

test('collateral of another platform family, at a time when it is valid, and of the other kind', () => {
  const byId = (id: string): DcapCase => dcapCases.find((vector) => vector.id === id)!;
  const [sgx, b0c06f, other] = [byId('sgx-ok'), byId('tdx4-ok'), byId('tdx4-module15')];
  // The three overlap in July 2025.
  const both = { collateral: other.collateralData, now: 1_752_500_000 };
  refuses(b0c06f, both, ['fmspc'], 'another family');
  assert.equal(verifyCase(other, both).tcbStatus, 'UpToDate');
  refuses(b0c06f, { collateral: sgx.collateralData, now: both.now }, ['crl-issuer', 'collateral-kind'], 'SGX for TDX');
  refuses(sgx, { collateral: b0c06f.collateralData, now: both.now }, ['crl-issuer', 'collateral-kind'], 'TDX for SGX');
  const mixed = {
    ...b0c06f.collateralData,
    tcb_info: sgx.collateralData.tcb_info,
    tcb_info_signature: sgx.collateralData.tcb_info_signature,
  };
  refuses(b0c06f, { collateral: mixed, now: both.now }, ['collateral-kind'], 'only the TCB info is for SGX');
  const enclave = {
    ...b0c06f.collateralData,
    qe_identity: sgx.collateralData.qe_identity,
    qe_identity_signature: sgx.collateralData.qe_identity_signature,
  };
  refuses(b0c06f, { collateral: enclave, now: both.now }, ['collateral-kind'], 'only the QE identity is for SGX');
});

test('another root is refused, and a root that is no key is malformed', () => {
  const vector = acceptedCases[0]!;
  const quote = parseDcapQuote(vector.quoteBytes);
  const verification = { now: vector.now, collateral: vector.collateralData };
  const root = INTEL_SGX_ROOT.replace(/^0b/, '0c');
  assert.throws(() => verifyDcapQuote(quote, { ...verification, root }), { code: 'root' });
  assert.throws(() => verifyDcapQuote(quote, { ...verification, root: 'ff' }), { code: 'hex' });
});

test('the collateral file reads as what it holds', () => {
  for (const vector of dcapCases) assert.deepEqual(parseDcapCollateral(vector.collateralText), vector.collateralData);
  assert.throws(() => parseDcapCollateral('{'), { code: 'collateral' });
  assert.throws(() => parseDcapCollateral('[]'), { code: 'fields' });
});

/** The part of @phala/dcap-qvl used here; a second opinion in tests only. */
interface SecondOpinion {
  verify(quote: Uint8Array, collateral: unknown, now: number): { status: string; advisory_ids: string[] };
}

test('@phala/dcap-qvl agrees, but for what it is known to do otherwise', () => {
  const require = createRequire(import.meta.url);
  const phala = require('@phala/dcap-qvl') as SecondOpinion;
  const opinions = dcapCases.map((vector) => {
    try {
      const { status, advisory_ids } = phala.verify(
        Buffer.from(vector.quoteBytes),
        { ...vector.collateralData },
        vector.now,
      );
      return [vector.id, status, [...advisory_ids].sort()];
    } catch (error) {
      return [vector.id, (error as Error).message, []];
    }
  });
  const ours = dcapCases.map((vector) => {
    // It refuses debug by itself; here that is the policy's question.
    if (vector.debug) return [vector.id, 'Debug mode is enabled', []];
    if (isRefused(vector)) return [vector.id, 'No matching TCB level found', []];
    const { tcbStatus, advisories } = verifyCase(vector);
    return [vector.id, tcbStatus, advisories];
  });
  const differing = opinions.filter((opinion, i) => JSON.stringify(opinion) !== JSON.stringify(ours[i]));
  // It compares all 16 TDX components and knows no module identities.
  assert.deepEqual(
    differing.map(([id, status]) => [id, status]),
    [['tdx4-module15', 'OutOfDate']],
  );
});

test('the pinned root is the one that @phala/dcap-qvl ships', () => {
  const require = createRequire(import.meta.url);
  const { TRUSTED_ROOT_CA_DER } = require('@phala/dcap-qvl/src/constants.js') as { TRUSTED_ROOT_CA_DER: Uint8Array };
  assert.ok(Buffer.from(TRUSTED_ROOT_CA_DER).includes(Buffer.from(`04${INTEL_SGX_ROOT}`, 'hex')));
});
