// Verifiers of evidence, pure functions: `distillock/attest`.
export { type AttestationPolicy, appraise } from './appraise.js';
export { parseSimulated, verifySimulated } from './evidence/simulated.js';
export type { AppraisedEvidence, EvidenceFacts, VerifiedEvidence } from './verified.js';
