// Brands: evidence that has been verified, and evidence that a policy has accepted. Zone: owner (verifier).
// Key release takes only the second, so it cannot be called with bytes that skipped a step.
import type { Claims } from '../trusted/wire/report-data.js';

declare const verified: unique symbol;
declare const appraised: unique symbol;

/** Signed by a software root: says which code claims to run. */
export interface SimulatedFacts {
  readonly kind: 'simulated';
  /** Hex SHA-256 of the trusted code. */
  readonly measurement: string;
}

/** What Intel's collateral says about the platform. Names as in Intel's TCB info and quote verification library. */
export interface DcapStatus {
  /** Merged over platform, TDX module and quoting enclave: `UpToDate`, `SWHardeningNeeded`, `OutOfDate`, … */
  readonly tcbStatus: string;
  /** Intel-SA numbers, sorted, of every level that matched. */
  readonly advisories: readonly string[];
  /** The smaller one of TCB info and QE identity. */
  readonly tcbEvaluationDataNumber: number;
  /** Unix seconds of the oldest issueDate / thisUpdate of TCB info, QE identity and PCK list. The root's list is issued once a year. */
  readonly collateralIssued: number;
}

/** Intel SGX enclave report body. Hex where not said otherwise. */
export interface SgxFacts extends DcapStatus {
  readonly kind: 'sgx';
  readonly mrenclave: string;
  readonly mrsigner: string;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly attributes: string;
  readonly xfrm: string;
  readonly miscSelect: number;
  readonly debug: boolean;
}

/** Intel TDX TD report body. Hex where not said otherwise. */
export interface TdxFacts extends DcapStatus {
  readonly kind: 'tdx';
  readonly mrtd: string;
  readonly rtmrs: readonly [string, string, string, string];
  readonly tdAttributes: string;
  readonly xfam: string;
  readonly mrConfigId: string;
  readonly mrOwner: string;
  readonly mrOwnerConfig: string;
  /** Zero in TD 1.0 quotes, which have none. */
  readonly mrServiceTd: string;
  readonly mrSignerSeam: string;
  readonly debug: boolean;
  readonly septVeDisable: boolean;
}

/** AMD's security version numbers. `fmc` is on Turin only. */
export interface SnpTcb {
  readonly fmc: number | null;
  readonly bootLoader: number;
  readonly tee: number;
  readonly snp: number;
  readonly microcode: number;
}

/** AMD SEV-SNP attestation report. Hex where not said otherwise. */
export interface SnpFacts {
  readonly kind: 'snp';
  readonly product: 'Milan' | 'Genoa' | 'Turin';
  readonly signedBy: 'VCEK' | 'VLEK';
  readonly measurement: string;
  readonly guestSvn: number;
  readonly policy: {
    readonly abiMajor: number;
    readonly abiMinor: number;
    readonly smt: boolean;
    readonly migrateMa: boolean;
    readonly debug: boolean;
    readonly singleSocket: boolean;
  };
  readonly vmpl: number;
  readonly reportedTcb: SnpTcb;
  readonly hostData: string;
  readonly idKeyDigest: string;
  readonly authorKeyDigest: string;
  readonly chipId: string;
}

/** TPM 2.0 quote. */
export interface TpmFacts {
  readonly kind: 'tpm';
  /** PCR index → hex, of the quoted (SHA-256) selection. */
  readonly pcrs: Readonly<Record<string, string>>;
  /** Hex SHA-256 of the attestation key's public area (TPM name without its algorithm). */
  readonly attestationKeyName: string;
  /** Subject of the pinned CA that issued the endorsement certificate. */
  readonly endorsementCa: string;
  /** The certificate was issued by a software TPM's CA (swtpm): no hardware. */
  readonly softwareTpm: boolean;
}

export type PlatformFacts = SimulatedFacts | SgxFacts | TdxFacts | SnpFacts | TpmFacts;

/** Hex; which code runs, in the platform's own measure. */
export function measurementOf(platform: PlatformFacts): string {
  switch (platform.kind) {
    case 'sgx':
      return platform.mrenclave;
    case 'tdx':
      return platform.mrtd;
    case 'tpm':
      return Object.values(platform.pcrs).join('');
    default:
      return platform.measurement;
  }
}

/** A quote whose signatures, chain and collateral hold. What it is about stands in the report data. */
export interface VerifiedQuote {
  readonly platform: PlatformFacts;
  /** 64 bytes that the enclave chose; for a TPM, the qualifying data. */
  readonly reportData: Uint8Array;
}

export interface EvidenceFacts {
  readonly claims: Claims;
  readonly platform: PlatformFacts;
}

/** Signatures and report data hold; whether it is acceptable is the policy's question. */
export type VerifiedEvidence = EvidenceFacts & { readonly [verified]: true };
/** A policy accepted it. */
export type AppraisedEvidence = VerifiedEvidence & { readonly [appraised]: true };

/** For the verifiers only. */
export function brandVerified(facts: EvidenceFacts): VerifiedEvidence {
  return facts as VerifiedEvidence;
}

/** For `appraise` only. */
export function brandAppraised(evidence: VerifiedEvidence): AppraisedEvidence {
  return evidence as AppraisedEvidence;
}
