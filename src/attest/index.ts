// Verifiers of evidence, pure functions: `distillock/attest`.
export { type AttestationPolicy, appraise } from './appraise.js';
export { decodeEvidence } from './evidence/decode-evidence.js';
export { parseSimulated, verifySimulated } from './evidence/simulated.js';
export { verifyLeaseRequest } from './lease-request.js';
export { parseReceipt, verifyReceipt } from './receipt.js';
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
