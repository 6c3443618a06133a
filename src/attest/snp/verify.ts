// SNP: is this report signed by a genuine AMD processor (VCEK) or an AMD-leased cloud key (VLEK)? Zone: owner (verifier).
// Pure: time, certificates and roots come in. Whether the facts are acceptable (debug, VMPL, TCB) is the policy's question.
// SEV Secure Nested Paging Firmware ABI (56860). Tested on recorded reports and a test PKI, not run on hardware.
import { verify } from 'node:crypto';
import { encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import type { SnpFacts, VerifiedQuote } from '../verified.js';
import { checkNow } from '../x509/certificate.js';
import { AMD_ROOTS, type SnpRoots } from './amd-roots.js';
import type { SnpQuote } from './certificate-table.js';
import { type SnpEndorsement, type VerifiedLeaf, verifyEndorsement } from './endorsement.js';
import type { SnpReport } from './report.js';
import { decodeTcb } from './tcb.js';

export interface SnpOptions {
  /** Unix seconds to verify at. */
  readonly now: number;
  readonly endorsement: SnpEndorsement;
  /** Instead of AMD's. */
  readonly roots?: SnpRoots | undefined;
  /** AMD's revocation list, DER. Without it revocation is not checked. */
  readonly crl?: Uint8Array | undefined;
}

/** Throws MalformedError, UnsupportedError or VerificationError; returns facts only when every signature holds. */
export function verifySnpReport(
  report: SnpReport,
  options: SnpOptions,
): VerifiedQuote & { readonly platform: SnpFacts } {
  checkNow(options.now);
  const { signedBy } = report;
  if (signedBy === null) throw new VerificationError('snp-unsigned', 'the processor left the report unsigned');
  const { now, roots = AMD_ROOTS, crl } = options;
  const leaf = verifyEndorsement(options.endorsement, { now, roots, crl });
  checkLeaf(report, leaf);
  const key = { key: leaf.publicKey, dsaEncoding: 'ieee-p1363' } as const;
  if (!verify('sha384', report.signed, key, report.signature)) {
    throw new VerificationError('snp-signature', 'the signature of the SNP report does not verify');
  }
  const { guestSvn, policy, vmpl, measurement, hostData, idKeyDigest, authorKeyDigest } = report;
  return {
    reportData: report.reportData,
    platform: {
      kind: 'snp',
      product: leaf.product,
      signedBy,
      measurement,
      guestSvn,
      policy,
      vmpl,
      reportedTcb: decodeTcb(report.reportedTcb, leaf.product),
      hostData,
      idKeyDigest,
      authorKeyDigest,
      chipId: encodeHex(report.chipId),
    },
  };
}

/** The certificate must be for this kind of key, product, firmware and chip. */
function checkLeaf(report: SnpReport, leaf: VerifiedLeaf): void {
  if (leaf.kind !== report.signedBy) {
    throw new VerificationError(
      'snp-leaf',
      `the report is signed by a ${report.signedBy}, the certificate is a ${leaf.kind}`,
    );
  }
  if (report.product !== null && report.product !== leaf.product) {
    throw new VerificationError(
      'snp-product',
      `a ${report.product} made the report, the certificate is for ${leaf.product}`,
    );
  }
  if (!equalBytes(report.reportedTcb, leaf.tcb)) {
    throw new VerificationError('snp-tcb', 'the certificate is for another firmware level (REPORTED_TCB)', {
      report: encodeHex(report.reportedTcb),
      certificate: encodeHex(leaf.tcb),
    });
  }
  const { hwId } = leaf;
  if (hwId === null) return;
  const rest = report.chipId.subarray(hwId.length);
  if (!equalBytes(report.chipId.subarray(0, hwId.length), hwId) || rest.some((byte) => byte !== 0)) {
    throw new VerificationError('snp-chip', 'the certificate is for another chip (CHIP_ID)');
  }
}

/** Certificates that do not come with the quote. Each in DER or PEM. */
export interface SnpCollateral {
  /** Used when the quote's table has none. */
  readonly leaf?: Uint8Array | undefined;
  readonly chain?: readonly Uint8Array[] | undefined;
  readonly crl?: Uint8Array | undefined;
}

export interface SnpQuoteOptions {
  readonly now: number;
  readonly collateral?: SnpCollateral | undefined;
  readonly roots?: SnpRoots | undefined;
}

/** Like `verifySnpReport`, with the certificates of the quote's own table, completed from `collateral`. */
export function verifySnpQuote(
  quote: SnpQuote,
  options: SnpQuoteOptions,
): VerifiedQuote & { readonly platform: SnpFacts } {
  const { report, table } = quote;
  const { now, collateral = {}, roots } = options;
  const leaf = (report.signedBy === 'VLEK' ? table.vlek : table.vcek) ?? collateral.leaf;
  if (leaf === undefined) {
    throw new VerificationError(
      'snp-endorsement',
      'neither the quote nor the collateral holds the VCEK or VLEK certificate',
    );
  }
  const chain = [table.ask, table.ark, ...(collateral.chain ?? [])].filter(
    (part) => part !== null && part !== undefined,
  );
  return verifySnpReport(report, { now, endorsement: { leaf, chain }, roots, crl: collateral.crl });
}
