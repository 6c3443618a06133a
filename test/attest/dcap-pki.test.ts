// Revocation, roles, names, windows and platform family, on a small PKI like Intel's: every refusal beside a control that holds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCertificate } from '../../src/attest/dcap/certificates.js';
import { parsePckExtension } from '../../src/attest/dcap/pck-extension.js';
import { parseDcapQuote } from '../../src/attest/dcap/quote.js';
import { verifyDcapQuote } from '../../src/attest/dcap/verify-dcap.js';
import type { SgxFacts, TdxFacts } from '../../src/attest/verified.js';
import { certificates, NOW, type PlatformOptions, pckExtension, zeros } from './intel-pki.js';
import { makePlatform } from './synthetic-quote.js';

async function verifyPlatform(options: PlatformOptions): Promise<SgxFacts | TdxFacts> {
  const { quote, collateral, root } = await makePlatform(options);
  return verifyDcapQuote(parseDcapQuote(quote), { now: NOW, collateral, root }).platform as SgxFacts | TdxFacts;
}

test('the platform verifies as made, in all three kinds', async () => {
  const sgx = await verifyPlatform({});
  assert.deepEqual(sgx, {
    kind: 'sgx',
    mrenclave: 'aa'.repeat(32),
    mrsigner: 'bb'.repeat(32),
    isvProdId: 3,
    isvSvn: 4,
    attributes: `05${'00'.repeat(7)}`,
    xfrm: `e7${'00'.repeat(7)}`,
    miscSelect: 0,
    debug: false,
    tcbStatus: 'UpToDate',
    advisories: [],
    tcbEvaluationDataNumber: 17,
    collateralIssued: NOW - 10 * 86_400,
  });
  const measurement = (byte: string): string => byte.repeat(48);
  for (const kind of ['td10', 'td15'] as const) {
    assert.deepEqual(await verifyPlatform({ kind }), {
      kind: 'tdx',
      mrtd: measurement('b0'),
      mrConfigId: measurement('c0'),
      mrOwner: measurement('c1'),
      mrOwnerConfig: measurement('c2'),
      rtmrs: ['d0', 'd1', 'd2', 'd3'].map(measurement),
      tdAttributes: '0000001000000000',
      xfam: 'e702060000000000',
      mrServiceTd: measurement('00'),
      mrSignerSeam: measurement('00'),
      debug: false,
      septVeDisable: true,
      tcbStatus: 'UpToDate',
      advisories: [],
      tcbEvaluationDataNumber: 17,
      collateralIssued: NOW - 10 * 86_400,
    });
  }
});

test('the root is a parameter: without it the same quote is refused', async () => {
  const { quote, collateral } = await makePlatform();
  assert.throws(() => verifyDcapQuote(parseDcapQuote(quote), { now: NOW, collateral }), { code: 'root' });
});

const refusals: readonly [string, PlatformOptions, string][] = [
  ['revoked leaf', { revoked: ['leaf'] }, 'certificate-revoked'],
  ['revoked authority', { revoked: ['authority'] }, 'certificate-revoked'],
  ['revoked TCB signer', { revoked: ['signing'] }, 'certificate-revoked'],
  ['revoked root', { revoked: ['root'] }, 'certificate-revoked'],
  ['list signed by another key under the right name', { forgedCrl: true }, 'crl-signature'],
  ['list of another issuer', { crlName: 'CN=Intel SGX PCK Processor CA, O=Test, C=US' }, 'crl-issuer'],
  ['expired PCK list', { crlWindow: [-40 * 86_400, -1] }, 'crl-window'],
  ['PCK list of the future', { crlWindow: [1, 40 * 86_400] }, 'crl-window'],
  ['expired root list', { rootCrlWindow: [-400 * 86_400, -1] }, 'crl-window'],
  ['expired TCB info', { tcbWindow: [-40 * 86_400, -1] }, 'collateral-window'],
  ['TCB info of the future', { tcbWindow: [1, 86_400] }, 'collateral-window'],
  ['expired QE identity', { qeWindow: [-40 * 86_400, -1] }, 'collateral-window'],
  ['expired leaf', { expired: ['leaf'] }, 'certificate-window'],
  ['expired authority', { expired: ['authority'] }, 'certificate-window'],
  ['expired root', { expired: ['root'] }, 'certificate-window'],
  ['expired TCB signer', { expired: ['signing'] }, 'certificate-window'],
  ['leaf of another role', { names: { leaf: 'Intel SGX TCB Signing' } }, 'certificate-role'],
  ['leaf with a longer name', { names: { leaf: 'Intel SGX PCK Certificate 2' } }, 'certificate-role'],
  ['authority of another role', { names: { authority: 'Intel SGX PCK CA' } }, 'certificate-role'],
  ['root of another role', { names: { root: 'Intel SGX Root' } }, 'certificate-role'],
  ['TCB signer of another role', { names: { signing: 'Intel SGX PCK Certificate' } }, 'certificate-role'],
  ['leaf that is an authority', { swapped: ['leaf'] }, 'certificate-role'],
  ['authority that is none', { swapped: ['authority'] }, 'certificate-role'],
  ['root that is no authority', { swapped: ['root'] }, 'certificate-role'],
  ['TCB signer that is an authority', { swapped: ['signing'] }, 'certificate-role'],
  ['another platform family', { pck: { fmspc: '00906ed50001' } }, 'fmspc'],
  ['another PCE', { pck: { pceId: '0100' } }, 'fmspc'],
  ['leaf without the SGX extension', { extension: null }, 'pck-extension'],
  ['leaf with an empty SGX extension', { extension: Uint8Array.of(0x30, 0) }, 'der'],
  ['TCB info for TDX', { tcbInfo: { id: 'TDX' } }, 'fields'],
  ['TCB info of version 2', { tcbInfo: { version: 2 } }, 'fields'],
  ['TCB info of another type', { tcbInfo: { tcbType: 1 } }, 'fields'],
  ['TCB info without levels', { levels: [] }, 'tcb-level'],
  ['unknown status', { levels: [{ status: 'Fine' }] }, 'fields'],
  ['QE identity for TDX', { qeIdentity: { id: 'TD_QE' } }, 'collateral-kind'],
  ['QE identity of version 1', { qeIdentity: { version: 1 } }, 'fields'],
  ['quoting enclave of another signer', { qe: { mrsigner: 0xdd } }, 'qe-identity'],
  ['quoting enclave of another product', { qe: { isvProdId: 2 } }, 'qe-identity'],
  ['quoting enclave in debug', { qe: { attributes: 0x17 } }, 'qe-identity'],
  ['quoting enclave with MISCSELECT', { qe: { miscSelect: 1 } }, 'qe-identity'],
  ['quoting enclave below every level', { qe: { isvSvn: 7 } }, 'tcb-level'],
  ['attestation key that the quoting enclave does not name', { qeReportData: new Uint8Array(64) }, 'attestation-key'],
  ['PCK certificate alone in the quote', { certificationType: 4 }, 'dcap-quote'],
  ['SGX body in a version 5 quote', { kind: 'td15', bodyType: 1 }, 'dcap-quote'],
  ['TD report 1.0 with the size of 1.5', { kind: 'td15', bodyType: 2 }, 'dcap-quote'],
  ['quote of version 6', { signedBytes: [[0, 6]] }, 'dcap-quote'],
  ['SGX quote of version 4', { signedBytes: [[0, 4]] }, 'dcap-quote'],
  ['attestation key of another kind', { signedBytes: [[2, 3]] }, 'dcap-quote'],
  ['TDX in a quote of version 3', { signedBytes: [[4, 0x81]] }, 'dcap-quote'],
  ['SGX in a quote of version 5', { kind: 'td15', signedBytes: [[4, 0]] }, 'dcap-quote'],
  ["another vendor's quoting enclave", { signedBytes: [[12, 0]] }, 'dcap-quote'],
  ['reserved byte after MISCSELECT', { signedBytes: [[48 + 20, 1]] }, 'dcap-quote'],
  ['reserved byte after MRENCLAVE', { signedBytes: [[48 + 96, 1]] }, 'dcap-quote'],
  ['reserved byte after MRSIGNER', { signedBytes: [[48 + 160, 1]] }, 'dcap-quote'],
  ['reserved byte after CONFIGSVN', { signedBytes: [[48 + 262, 1]] }, 'dcap-quote'],
  ['another signer of the TDX module', { kind: 'td10', seam: { mrsigner: 1 } }, 'tdx-module'],
  [
    'another signer of the TDX module, without a version',
    { kind: 'td10', tcbSvn: zeros(16), seam: { mrsigner: 1 } },
    'tdx-module',
  ],
  ['TDX module with attributes', { kind: 'td10', seam: { attributes: 1 } }, 'tdx-module'],
  [
    'TDX module of which attributes are expected',
    {
      kind: 'td10',
      tcbSvn: zeros(16),
      tcbInfo: {
        tdxModule: { mrsigner: '00'.repeat(48), attributes: `01${'00'.repeat(7)}`, attributesMask: 'FF'.repeat(8) },
      },
    },
    'tdx-module',
  ],
  ['unknown TDX module', { kind: 'td10', tcbSvn: [5, 2, ...new Array<number>(14).fill(0)] }, 'tdx-module'],
];

for (const [what, options, code] of refusals) {
  test(`refused: ${what} (${code})`, async () => {
    await assert.rejects(verifyPlatform(options), { code });
  });
}

test("an authority revoked in the quote's chain only, beside another of the same name and key in the collateral", async () => {
  const serials = { authority: '03' };
  const { quote, root, collateral } = await makePlatform({ serials });
  const usual = await makePlatform();
  const { root_ca_crl } = (await makePlatform({ serials, revoked: ['authority'] })).collateral;
  const verify = (part: Partial<typeof collateral>): unknown =>
    verifyDcapQuote(parseDcapQuote(quote), { now: NOW, root, collateral: { ...collateral, ...part } });
  verify({ pck_crl_issuer_chain: usual.collateral.pck_crl_issuer_chain });
  assert.throws(() => verify({ pck_crl_issuer_chain: usual.collateral.pck_crl_issuer_chain, root_ca_crl }), {
    code: 'certificate-revoked',
    details: { serial: '03' },
  });
});

test('debug is a fact, not a refusal', async () => {
  assert.equal((await verifyPlatform({ attributes: 7 })).debug, true);
  assert.equal((await verifyPlatform({ kind: 'td10', attributes: 1 })).debug, true);
  // Any bit of the byte "TD under debug".
  assert.equal((await verifyPlatform({ kind: 'td15', attributes: 0x80 })).debug, true);
});

test('windows include their first and last second', async () => {
  const { quote, collateral, root } = await makePlatform({ tcbWindow: [-5, 5], crlWindow: [-5, 5], qeWindow: [-5, 5] });
  const parsed = parseDcapQuote(quote);
  for (const offset of [-5, 0, 5]) verifyDcapQuote(parsed, { now: NOW + offset, collateral, root });
  for (const offset of [-6, 6]) assert.throws(() => verifyDcapQuote(parsed, { now: NOW + offset, collateral, root }));
});

test('the PCK extension reads as written', () => {
  const pck = {
    components: Array.from({ length: 16 }, (_, i) => i * 17),
    pceSvn: 300,
    pceId: '0a0b',
    fmspc: '00906ed50000',
  };
  assert.deepEqual(parsePckExtension(pckExtension(pck)), pck);
  assert.throws(() => parsePckExtension(pckExtension({ ...pck, components: pck.components.slice(1) })), {
    code: 'der',
  });
  assert.throws(() => parsePckExtension(pckExtension({ ...pck, fmspc: '00' })), { code: 'der' });
});

test('certificates read as @peculiar/x509 wrote them', async () => {
  const made = await certificates({});
  for (const certificate of Object.values(made)) {
    const parsed = parseCertificate(new Uint8Array(certificate.rawData));
    assert.equal(parsed.serial.replace(/^00/, ''), certificate.serialNumber.replace(/^00/, ''));
    assert.equal(parsed.notAfter, certificate.notAfter.getTime() / 1000);
    assert.ok(certificate.subject.startsWith(`CN=${parsed.commonName},`));
  }
});
