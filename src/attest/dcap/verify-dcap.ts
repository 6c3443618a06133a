// Verifies an Intel quote against collateral: who signed it, and what Intel says of that platform at a time. Zone: owner (verifier).
// Intel's quote verification library is the reference (QuoteVerifier). A pure function: no clock, no network, no cache. Whether the
// status, the advisories or DEBUG are acceptable is the policy's question; only what Intel has revoked is refused here.
import { createHash } from 'node:crypto';
import { concatBytes, encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import type { DcapStatus, SgxFacts, TdxFacts, VerifiedQuote } from '../verified.js';
import { type DcapCollateral, type VerifiedCollateral, verifyDcapCollateral } from './collateral.js';
import { refuseRevoked } from './crl.js';
import { INTEL_SGX_ROOT, verifyIntelChain } from './intel-chain.js';
import { verifyP256 } from './p256.js';
import { type PckFacts, readPckExtension } from './pck-extension.js';
import { matchQe } from './qe-identity.js';
import type { DcapQuote } from './quote.js';
import type { EnclaveReport, TdReport } from './reports.js';
import { currentModuleIsLatest, matchModule, matchPlatform } from './tcb-info.js';
import { adviseRelaunch, mergeStatus } from './tcb-status.js';

const SGX_DEBUG = 0x02;
const SEPT_VE_DISABLE = 0x10; // bit 28 of the TD's attributes

export interface DcapVerification {
  /** Unix seconds. */
  readonly now: number;
  readonly collateral: DcapCollateral;
  /** Public key of the root, hex of x‖y; Intel's SGX root unless given. */
  readonly root?: string;
}

/** The signatures inside the quote: attestation key → body, QE report → attestation key, PCK → QE report, chain → root. */
function verifySignatures(quote: DcapQuote, root: string, now: number): void {
  const { attestationKey, qeAuthData, qeReport, pckChain } = quote;
  if (!verifyP256(attestationKey, quote.signed, quote.signature, 'ieee-p1363')) {
    throw new VerificationError('quote-signature', 'the attestation key did not sign this quote');
  }
  const binding = createHash('sha256').update(concatBytes(attestationKey, qeAuthData)).digest();
  if (!equalBytes(qeReport.reportData, concatBytes(binding, new Uint8Array(32)))) {
    throw new VerificationError('attestation-key', 'the quoting enclave does not vouch for this attestation key');
  }
  if (!verifyP256(pckChain[0].point, qeReport.raw, quote.qeReportSignature, 'ieee-p1363')) {
    throw new VerificationError('qe-report-signature', "the platform's PCK did not sign the quoting enclave's report");
  }
  verifyIntelChain(pckChain, ['pck', 'pckAuthority', 'root'], root, now);
}

/** The collateral must be for this platform family and kind of quote, and name none of the quote's certificates as revoked. */
function checkPlatform(quote: DcapQuote, pck: PckFacts, collateral: VerifiedCollateral): void {
  const { tcbInfo, qeIdentity, pckCrl, rootCrl } = collateral;
  const [leaf, authority, root] = quote.pckChain;
  refuseRevoked(root, rootCrl);
  refuseRevoked(authority, rootCrl);
  refuseRevoked(leaf, pckCrl);
  const expected = quote.body.kind === 'sgx' ? ['SGX', 'QE'] : ['TDX', 'TD_QE'];
  if (tcbInfo.id !== expected[0] || qeIdentity.id !== expected[1]) {
    throw new VerificationError(
      'collateral-kind',
      `TCB info ${tcbInfo.id} and QE identity ${qeIdentity.id} are not for a quote of kind ${quote.body.kind}`,
    );
  }
  if (tcbInfo.fmspc !== pck.fmspc || tcbInfo.pceId !== pck.pceId) {
    throw new VerificationError('fmspc', 'the TCB info is for another platform family or PCE', {
      quoteFmspc: pck.fmspc,
      collateralFmspc: tcbInfo.fmspc,
    });
  }
}

function appraisePlatform(quote: DcapQuote, pck: PckFacts, collateral: VerifiedCollateral): DcapStatus {
  const { tcbInfo, qeIdentity } = collateral;
  const qe = matchQe(qeIdentity, quote.qeReport);
  const td = quote.body.kind === 'tdx' ? quote.body.report : null;
  const platform = matchPlatform(tcbInfo, pck, td === null ? null : td.tcbSvn);
  const module = td === null ? null : matchModule(tcbInfo, td);
  const launched = mergeStatus(platform.matched.status, module?.status ?? 'UpToDate');
  const running = td?.tcbSvn2;
  const withModule =
    module === null || !running
      ? launched
      : adviseRelaunch({
          sgx: platform.sgx.status,
          tdx: launched,
          module: module.status,
          qe: qe.status,
          currentModuleIsLatest: () => currentModuleIsLatest(tcbInfo, running),
        });
  const tcbStatus = mergeStatus(withModule, qe.status);
  if (tcbStatus === 'Revoked') {
    throw new VerificationError(
      'tcb-revoked',
      'Intel has revoked the level of the platform, TDX module or quoting enclave',
    );
  }
  const levels = [platform.sgx, platform.matched, module, qe];
  return {
    tcbStatus,
    advisories: [...new Set(levels.flatMap((level) => level?.advisories ?? []))].sort(),
    tcbEvaluationDataNumber: Math.min(tcbInfo.evaluationNumber, qeIdentity.evaluationNumber),
    collateralIssued: collateral.issued,
  };
}

function sgxFacts(report: EnclaveReport, status: DcapStatus): SgxFacts {
  const { attributes, miscSelect } = report;
  return {
    kind: 'sgx',
    mrenclave: encodeHex(report.mrenclave),
    mrsigner: encodeHex(report.mrsigner),
    isvProdId: report.isvProdId,
    isvSvn: report.isvSvn,
    attributes: encodeHex(attributes.subarray(0, 8)),
    xfrm: encodeHex(attributes.subarray(8)),
    miscSelect: Buffer.from(miscSelect).readUInt32LE(),
    debug: (attributes[0]! & SGX_DEBUG) !== 0,
    ...status,
  };
}

function tdxFacts(report: TdReport, status: DcapStatus): TdxFacts {
  const { tdAttributes, rtmrs } = report;
  return {
    kind: 'tdx',
    mrtd: encodeHex(report.mrtd),
    rtmrs: [encodeHex(rtmrs[0]), encodeHex(rtmrs[1]), encodeHex(rtmrs[2]), encodeHex(rtmrs[3])],
    tdAttributes: encodeHex(tdAttributes),
    xfam: encodeHex(report.xfam),
    mrConfigId: encodeHex(report.mrConfigId),
    mrOwner: encodeHex(report.mrOwner),
    mrOwnerConfig: encodeHex(report.mrOwnerConfig),
    mrServiceTd: encodeHex(report.mrServiceTd ?? new Uint8Array(48)),
    mrSignerSeam: encodeHex(report.mrSignerSeam),
    // The whole first byte is "TD under debug"; a bit in it that has no name yet counts too.
    debug: tdAttributes[0] !== 0,
    septVeDisable: (tdAttributes[3]! & SEPT_VE_DISABLE) !== 0,
    ...status,
  };
}

/**
 * Throws VerificationError when a signature, name, window, revocation, platform family or level does not hold, MalformedError
 * when the collateral or `now` cannot be read. The error's code says which.
 */
export function verifyDcapQuote(quote: DcapQuote, verification: DcapVerification): VerifiedQuote {
  const { now, root = INTEL_SGX_ROOT } = verification;
  if (!Number.isSafeInteger(now) || now < 0) {
    throw new MalformedError('now', 'the time of verification must be whole Unix seconds');
  }
  verifySignatures(quote, root, now);
  const collateral = verifyDcapCollateral(verification.collateral, root, now);
  const pck = readPckExtension(quote.pckChain[0]);
  checkPlatform(quote, pck, collateral);
  const status = appraisePlatform(quote, pck, collateral);
  const { body } = quote;
  const platform = body.kind === 'sgx' ? sgxFacts(body.report, status) : tdxFacts(body.report, status);
  return { platform, reportData: Uint8Array.from(body.report.reportData) };
}
