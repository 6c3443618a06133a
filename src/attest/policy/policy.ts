// What an attestation policy pins, per kind of evidence. Zone: owner (verifier). Read from YAML by read-policy.ts.
// Every pin is required; only what allows more (`allowSmt`, advisories, a mask) may be left out, and then nothing more is allowed. So
// leaving a line out never lets more through. Values are hex, lower case, in the byte order of the quote. What no policy may allow
// has no key: SGX DEBUG, a TD under debug, SNP debug, `Revoked`.
import type { SnpFacts, SnpTcb } from '../verified.js';

/** Accepted values; `any` accepts whatever is there, and must be written out. */
export type Pin = readonly string[] | 'any';

/** Bits outside the mask may be anything. Both 8 bytes, hex. */
export interface MaskedPin {
  readonly value: string;
  readonly mask: string;
}

export interface SimulatedPins {
  /** Ed25519 public keys, hex, of the software roots whose quotes are believed. */
  readonly roots: readonly string[];
  readonly measurements: Pin;
}

/** What Intel's collateral must say about the platform. */
export interface DcapPins {
  readonly statuses: readonly string[];
  /** An advisory that is not in this list is refused. */
  readonly advisories: readonly string[];
  readonly minTcbEvaluationDataNumber: number;
  readonly maxCollateralAgeDays: number;
}

/** The code, either by its measurement or by its signer. */
export type SgxCodePins =
  | { readonly mrenclave: readonly string[] }
  | { readonly mrsigner: readonly string[]; readonly isvProdId: number; readonly minIsvSvn: number };

export type SgxPins = DcapPins &
  SgxCodePins & {
    readonly attributes: MaskedPin;
    readonly xfrm: MaskedPin | 'any';
  };

export interface TdxPins extends DcapPins {
  readonly mrtd: readonly string[];
  readonly rtmr0: Pin;
  readonly rtmr1: Pin;
  readonly rtmr2: Pin;
  readonly rtmr3: Pin;
  readonly tdAttributes: readonly string[];
  readonly xfam: Pin;
  readonly mrConfigId: Pin;
  readonly mrOwner: Pin;
  readonly mrOwnerConfig: Pin;
}

export interface SnpPins {
  readonly measurement: readonly string[];
  /** Accepted products, each with its lowest REPORTED_TCB. */
  readonly minTcb: Readonly<Partial<Record<SnpFacts['product'], SnpTcb>>>;
  readonly minAbi: { readonly major: number; readonly minor: number };
  readonly allowSmt: boolean;
  readonly allowMigration: boolean;
  readonly allowMultipleSockets: boolean;
  readonly vmpl: readonly number[];
  readonly minGuestSvn: number;
  readonly hostData: Pin;
  readonly idKeyDigest: Pin;
  readonly authorKeyDigest: Pin;
  readonly signedBy: readonly SnpFacts['signedBy'][];
  readonly chipIds: Pin;
}

export interface TpmPins {
  /** Certificates, PEM, of the authorities that issue endorsement certificates. */
  readonly endorsementCas: readonly string[];
  /** PCR index → accepted values. The quote must hold these registers and no other. */
  readonly pcrs: Readonly<Record<string, Pin>>;
  /** Whether a software TPM (swtpm) will do: it has no hardware behind it. */
  readonly softwareTpm: boolean;
}

/** Roots believed besides the vendors' own, for test machines and private certificate authorities. */
export interface ExtraRoots {
  /** Public keys, hex of x‖y on P-256. */
  readonly intel: readonly string[];
  /** Hex SHA-256 of a root key's subject public key info, per product. */
  readonly amd: Readonly<Partial<Record<SnpFacts['product'], readonly string[]>>>;
}

/** A kind that has no pins is refused. */
export interface AttestationPolicy {
  /** Accepted bundle ids, hex. */
  readonly bundles: readonly string[];
  readonly simulated?: SimulatedPins;
  readonly sgx?: SgxPins;
  readonly tdx?: TdxPins;
  readonly snp?: SnpPins;
  readonly tpm?: TpmPins;
  readonly extraRoots?: ExtraRoots;
}

export const KINDS = ['simulated', 'sgx', 'tdx', 'snp', 'tpm'] as const;

/** For one SIMULATED enclave: no hardware vouches for it. */
export function simulatedPolicy(bundleId: string, root: Uint8Array, measurements: Pin = 'any'): AttestationPolicy {
  return { bundles: [bundleId], simulated: { roots: [Buffer.from(root).toString('hex')], measurements } };
}
