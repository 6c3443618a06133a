// Verifiers of evidence, pure functions: `distillock/attest`.
export { type DcapCollateral, parseDcapCollateral } from './dcap/collateral.js';
export { INTEL_SGX_ROOT } from './dcap/intel-chain.js';
export { type DcapQuote, parseDcapQuote } from './dcap/quote.js';
export { DCAP_STATUSES } from './dcap/tcb-status.js';
export { type DcapVerification, verifyDcapQuote } from './dcap/verify-dcap.js';
export type { Collateral } from './evidence/collateral.js';
export { decodeEvidence } from './evidence/decode-evidence.js';
export { readCollateral } from './evidence/read-collateral.js';
export { recogniseQuote } from './evidence/recognise.js';
export { parseSimulated, verifySimulated } from './evidence/simulated.js';
export {
  appraiseEvidence,
  type EvidenceContext,
  type QuoteContext,
  verifyEvidence,
  verifyQuote,
} from './evidence/verify-evidence.js';
export { verifyLeaseRequest } from './lease-request.js';
export { appraise, type ExplainedFacts, explain } from './policy/appraise.js';
export { type AttestationPolicy, simulatedPolicy } from './policy/policy.js';
export { parsePolicy, readPolicy } from './policy/read-policy.js';
export type { Rule } from './policy/rule.js';
export { type TrustRoots, trustRoots } from './policy/trust-roots.js';
export { parseReceipt, verifyReceipt } from './receipt.js';
export { AMD_ROOTS, type SnpRoots } from './snp/amd-roots.js';
export { parseSnpQuote, type SnpQuote } from './snp/certificate-table.js';
export type { SnpEndorsement } from './snp/endorsement.js';
export { parseSnpReport, type SnpReport } from './snp/report.js';
export { type SnpCollateral, type SnpOptions, verifySnpQuote, verifySnpReport } from './snp/verify.js';
export {
  type ActivatedKey,
  challengeKey,
  type EndorsedKey,
  endorseKey,
  type KeyFacts,
  proveKey,
  recallKey,
} from './tpm/activated-key.js';
export { type Credential, encodeCredential, makeCredential } from './tpm/credential.js';
export type { TpmEndorsement, TpmRoot } from './tpm/endorsement.js';
export { encodeTpmQuote, parseTpmQuote, type TpmQuote } from './tpm/quote.js';
export { type TpmOptions, type VerifiedTpmQuote, verifyTpmQuote } from './tpm/verify.js';
export {
  type AppraisedEvidence,
  type DcapStatus,
  type EvidenceFacts,
  measurementOf,
  type PlatformFacts,
  type SgxFacts,
  type SimulatedFacts,
  type SnpFacts,
  type SnpTcb,
  type TdxFacts,
  type TpmFacts,
  type VerifiedEvidence,
  type VerifiedQuote,
} from './verified.js';
