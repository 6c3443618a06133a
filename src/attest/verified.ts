// Brands: evidence that has been verified, and evidence that a policy has accepted. Zone: owner (verifier).
// Key release takes only the second, so it cannot be called with bytes that skipped a step.
import type { Claims } from '../trusted/wire/report-data.js';

declare const verified: unique symbol;
declare const appraised: unique symbol;

export interface EvidenceFacts {
  readonly claims: Claims;
  /** Hex; which code runs, in the platform's own measure. */
  readonly measurement: string;
}

/** Signatures and report data hold; whether it is acceptable is the policy's question. */
export type VerifiedEvidence = EvidenceFacts & { readonly [verified]: true };
/** A policy accepted it. */
export type AppraisedEvidence = VerifiedEvidence & { readonly [appraised]: true };

/** For the verifiers in `evidence/` only. */
export function brandVerified(facts: EvidenceFacts): VerifiedEvidence {
  return facts as VerifiedEvidence;
}

/** For `appraise` only. */
export function brandAppraised(evidence: VerifiedEvidence): AppraisedEvidence {
  return evidence as AppraisedEvidence;
}
