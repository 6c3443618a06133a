// Verifiers of evidence, pure functions: `distillock/attest`.
export { type AttestationPolicy, appraise } from './appraise.js';
export { type DcapCollateral, parseDcapCollateral } from './dcap/collateral.js';
export { INTEL_SGX_ROOT } from './dcap/intel-chain.js';
export { type DcapQuote, parseDcapQuote } from './dcap/quote.js';
export { DCAP_STATUSES } from './dcap/tcb-status.js';
export { type DcapVerification, verifyDcapQuote } from './dcap/verify-dcap.js';
export { parseSimulated, verifySimulated } from './evidence/simulated.js';
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
