// Facts of a healthy platform of each kind, and a policy that accepts exactly those. Not a test itself.
import type { AttestationPolicy } from '../../src/attest/policy/policy.js';
import { parsePolicy } from '../../src/attest/policy/read-policy.js';
import {
  brandVerified,
  type PlatformFacts,
  type SgxFacts,
  type SimulatedFacts,
  type SnpFacts,
  type TdxFacts,
  type TpmFacts,
  type VerifiedEvidence,
} from '../../src/attest/verified.js';
import type { Claims } from '../../src/trusted/wire/report-data.js';

const DAY = 86_400;
export const NOW: number = 1_751_624_924;
export const BUNDLE: string = 'cd'.repeat(32);
export const OTHER_32: string = 'ee'.repeat(32);
const ZERO = (bytes: number): string => '00'.repeat(bytes);

const dcap = {
  tcbStatus: 'SWHardeningNeeded',
  advisories: ['INTEL-SA-00615'],
  tcbEvaluationDataNumber: 17,
  collateralIssued: NOW - 10 * DAY,
};

export const SIMULATED: SimulatedFacts = { kind: 'simulated', measurement: 'ab'.repeat(32) };
export const SGX: SgxFacts = {
  kind: 'sgx',
  mrenclave: '11'.repeat(32),
  mrsigner: '22'.repeat(32),
  isvProdId: 3,
  isvSvn: 4,
  attributes: '0500000000000000',
  xfrm: 'e700000000000000',
  miscSelect: 0,
  debug: false,
  ...dcap,
};
export const TDX: TdxFacts = {
  kind: 'tdx',
  mrtd: '31'.repeat(48),
  rtmrs: ['32'.repeat(48), '33'.repeat(48), '34'.repeat(48), ZERO(48)],
  tdAttributes: '0000001000000000',
  xfam: 'e702060000000000',
  mrConfigId: ZERO(48),
  mrOwner: ZERO(48),
  mrOwnerConfig: ZERO(48),
  mrServiceTd: ZERO(48),
  mrSignerSeam: ZERO(48),
  debug: false,
  septVeDisable: true,
  ...dcap,
};
export const SNP: SnpFacts = {
  kind: 'snp',
  product: 'Milan',
  signedBy: 'VCEK',
  measurement: '41'.repeat(48),
  guestSvn: 7,
  policy: { abiMajor: 1, abiMinor: 55, smt: true, migrateMa: false, debug: false, singleSocket: true },
  vmpl: 0,
  reportedTcb: { fmc: null, bootLoader: 3, tee: 1, snp: 23, microcode: 200 },
  hostData: ZERO(32),
  idKeyDigest: '42'.repeat(48),
  authorKeyDigest: ZERO(48),
  chipId: '43'.repeat(64),
};
export const TPM: TpmFacts = {
  kind: 'tpm',
  pcrs: { '0': '51'.repeat(32), '7': '52'.repeat(32) },
  attestationKeyName: '53'.repeat(32),
  endorsementCa: 'O=Example, CN=Example TPM endorsement CA',
  softwareTpm: false,
};
export const FACTS: Readonly<Record<PlatformFacts['kind'], PlatformFacts>> = {
  simulated: SIMULATED,
  sgx: SGX,
  tdx: TDX,
  snp: SNP,
  tpm: TPM,
};

/** A record as it stands in a policy file. */
export type Section = Record<string, unknown>;
const dcapPins = {
  statuses: ['UpToDate', 'SWHardeningNeeded'],
  advisories: ['INTEL-SA-00615'],
  minTcbEvaluationDataNumber: 17,
  maxCollateralAgeDays: 10,
};

/** Every pin is written out, so that a test can take any of them away. */
export const SECTIONS = (endorsementCa: string): Readonly<Record<string, Section>> => ({
  simulated: { roots: ['99'.repeat(32)], measurements: [SIMULATED.measurement] },
  sgx: {
    mrsigner: [SGX.mrsigner],
    isvProdId: 3,
    minIsvSvn: 4,
    attributes: { value: '0500000000000000', mask: 'ffffffffffffffff' },
    xfrm: { value: 'e700000000000000', mask: 'ffffffffffffffff' },
    ...dcapPins,
  },
  tdx: {
    mrtd: [TDX.mrtd],
    rtmr0: [TDX.rtmrs[0]],
    rtmr1: [TDX.rtmrs[1]],
    rtmr2: [TDX.rtmrs[2]],
    rtmr3: [ZERO(48)],
    tdAttributes: ['0000001000000000'],
    xfam: [TDX.xfam],
    mrConfigId: [ZERO(48)],
    mrOwner: [ZERO(48)],
    mrOwnerConfig: [ZERO(48)],
    ...dcapPins,
  },
  snp: {
    measurement: [SNP.measurement],
    minTcb: { Milan: { bootLoader: 3, tee: 1, snp: 23, microcode: 200 } },
    minAbi: { major: 1, minor: 55 },
    allowSmt: true,
    allowMigration: false,
    allowMultipleSockets: false,
    vmpl: [0],
    minGuestSvn: 7,
    hostData: [ZERO(32)],
    idKeyDigest: [SNP.idKeyDigest],
    authorKeyDigest: [ZERO(48)],
    signedBy: ['VCEK'],
    chipIds: [SNP.chipId],
  },
  tpm: { endorsementCas: [endorsementCa], pcrs: { '0': [TPM.pcrs[0]], '7': [TPM.pcrs[7]] }, softwareTpm: false },
});

/** JSON is YAML. */
export function policyOf(sections: Readonly<Record<string, unknown>>, bundles: unknown = [BUNDLE]): AttestationPolicy {
  return parsePolicy(JSON.stringify({ version: 1, bundles, ...sections }), 'policy.yaml');
}

/** As a verifier would have made it. */
export function verified(platform: PlatformFacts, changes: Partial<Claims> = {}): VerifiedEvidence {
  const key = new Uint8Array(32);
  const claims: Claims = {
    kind: platform.kind,
    encryptionKey: key,
    signingKey: key,
    bundleId: BUNDLE,
    ownerKey: key,
    ...changes,
  };
  return brandVerified({ claims, platform });
}
