// Collateral of the test's PKI: TCB info, QE identity and revocation lists, signed as Intel signs them.
// The records have the fields of Intel's PCS API version 4; options change them before they are signed.
import type { DcapCollateral } from '../../src/attest/dcap/collateral.js';
import {
  type CertificateName,
  type Certificates,
  DAY,
  date,
  type EnclaveLevel,
  keyOf,
  NOW,
  type PlatformOptions,
  pemChain,
  SERIALS,
  SIGN,
  sign,
  x509,
  zeros,
} from './intel-pki.js';

const iso = (seconds: number): string => date(seconds).toISOString().replace('.000', '');

async function revocationList(
  issuer: { readonly name: string; readonly key: string },
  window: readonly [number, number],
  serials: readonly string[],
): Promise<string> {
  const list = await x509.X509CrlGenerator.create({
    issuer: issuer.name,
    thisUpdate: date(NOW + window[0]),
    nextUpdate: date(NOW + window[1]),
    entries: serials.map((serialNumber) => ({
      serialNumber,
      revocationDate: date(NOW - DAY),
      reason: x509.X509CrlReason.keyCompromise,
    })),
    signingAlgorithm: SIGN,
    signingKey: (await keyOf(issuer.key)).privateKey,
    extensions: [new x509.Extension('2.5.29.20', false, Uint8Array.from([2, 1, 1]))],
  });
  return Buffer.from(list.rawData).toString('hex');
}

const MONTH: readonly [number, number] = [-10 * DAY, 20 * DAY];

function tcbInfo(options: PlatformOptions): string {
  const tdx = (options.kind ?? 'sgx') !== 'sgx';
  const [from, to] = options.tcbWindow ?? MONTH;
  const components = (svns: readonly number[]): { svn: number }[] => svns.map((svn) => ({ svn }));
  const levels = options.levels ?? [{ status: 'UpToDate' }];
  const module = { mrsigner: '00'.repeat(48), attributes: '00'.repeat(8), attributesMask: 'FF'.repeat(8) };
  const moduleLevels = (options.moduleLevels ?? [{ isvSvn: 5, status: 'UpToDate' }]).map(enclaveLevel);
  return JSON.stringify({
    id: tdx ? 'TDX' : 'SGX',
    version: 3,
    issueDate: iso(NOW + from),
    nextUpdate: iso(NOW + to),
    fmspc: '00906ED50000',
    pceId: '0000',
    tcbType: 0,
    tcbEvaluationDataNumber: 17,
    ...(tdx && { tdxModule: module, tdxModuleIdentities: [{ id: 'TDX_01', ...module, tcbLevels: moduleLevels }] }),
    tcbLevels: levels.map((level) => ({
      tcb: {
        sgxtcbcomponents: components(level.sgx ?? zeros(16)),
        pcesvn: level.pceSvn ?? 0,
        ...(tdx && { tdxtcbcomponents: components(level.tdx ?? zeros(16)) }),
      },
      tcbDate: '2026-01-01T00:00:00Z',
      tcbStatus: level.status,
      ...(level.advisories && { advisoryIDs: level.advisories }),
    })),
    ...options.tcbInfo,
  });
}

function enclaveLevel({ isvSvn, status, advisories }: EnclaveLevel): unknown {
  const level = { tcb: { isvsvn: isvSvn }, tcbDate: '2026-01-01T00:00:00Z', tcbStatus: status };
  return advisories === undefined ? level : { ...level, advisoryIDs: advisories };
}

export const QE_SIGNER = 0xdc;

function qeIdentity(options: PlatformOptions): string {
  const [from, to] = options.qeWindow ?? MONTH;
  return JSON.stringify({
    id: (options.kind ?? 'sgx') === 'sgx' ? 'QE' : 'TD_QE',
    version: 2,
    issueDate: iso(NOW + from),
    nextUpdate: iso(NOW + to),
    tcbEvaluationDataNumber: 18,
    miscselect: '00000000',
    miscselectMask: 'FFFFFFFF',
    attributes: `11${'00'.repeat(15)}`,
    attributesMask: `FBFFFFFFFFFFFFFF${'00'.repeat(8)}`,
    mrsigner: QE_SIGNER.toString(16).repeat(32),
    isvprodid: 1,
    tcbLevels: (options.qeLevels ?? [{ isvSvn: 8, status: 'UpToDate' }]).map(enclaveLevel),
    ...options.qeIdentity,
  });
}

export async function collateralOf(made: Certificates, options: PlatformOptions): Promise<DcapCollateral> {
  const revoked = (...names: readonly CertificateName[]): string[] =>
    names.filter((name) => options.revoked?.includes(name)).map((name) => options.serials?.[name] ?? SERIALS[name]);
  const authorityName = options.crlName ?? made.authority.subject;
  const pckKey = options.forgedCrl ? 'forger' : 'authority';
  const tcb = tcbInfo(options);
  const qe = qeIdentity(options);
  const hex = async (text: string): Promise<string> =>
    Buffer.from(await sign('signing', Buffer.from(text, 'utf8'))).toString('hex');
  return {
    tcb_info: tcb,
    tcb_info_signature: await hex(tcb),
    tcb_info_issuer_chain: pemChain(made.signing, made.root),
    qe_identity: qe,
    qe_identity_signature: await hex(qe),
    qe_identity_issuer_chain: pemChain(made.signing, made.root),
    root_ca_crl: await revocationList(
      { name: made.root.subject, key: 'root' },
      options.rootCrlWindow ?? [-300 * DAY, 60 * DAY],
      revoked('root', 'authority', 'signing'),
    ),
    pck_crl: await revocationList({ name: authorityName, key: pckKey }, options.crlWindow ?? MONTH, revoked('leaf')),
    pck_crl_issuer_chain: pemChain(made.authority, made.root),
  };
}
