// Verifiers of evidence, pure functions: `distillock/attest`.
export { parseSimulated, verifySimulated } from './evidence/simulated.js';
export { appraise, type ExplainedFacts, explain } from './policy/appraise.js';
export { type AttestationPolicy, simulatedPolicy } from './policy/policy.js';
export { parsePolicy, readPolicy } from './policy/read-policy.js';
export type { Rule } from './policy/rule.js';
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
