// Appraisal: does the owner's policy accept this verified evidence? Zone: owner (verifier). RATS, RFC 9334.
// A pure function. What a policy does not name it rejects, so an empty policy rejects everything.
import { PolicyError } from '../trusted/wire/errors.js';
import { type AppraisedEvidence, brandAppraised, type VerifiedEvidence } from './verified.js';

export interface AttestationPolicy {
  /** Accepted evidence kinds. `simulated` must be named to be accepted. */
  readonly kinds: readonly string[];
  /** Accepted bundles, by id. */
  readonly bundleIds: readonly string[];
  /** Accepted measurements, hex; `any` accepts whatever code runs, which only `simulated` may use. */
  readonly measurements: readonly string[] | 'any';
}

/** Throws PolicyError naming the first rule that fails. */
export function appraise(evidence: VerifiedEvidence, policy: AttestationPolicy): AppraisedEvidence {
  const { kind, bundleId } = evidence.claims;
  if (!policy.kinds.includes(kind)) {
    throw new PolicyError('evidence-kind', `the policy does not accept evidence of kind ${kind}`, { kind });
  }
  if (!policy.bundleIds.includes(bundleId)) {
    throw new PolicyError('evidence-bundle', 'the enclave runs a bundle that the policy does not name', { bundleId });
  }
  const { platform } = evidence;
  if (platform.kind !== 'simulated') {
    throw new PolicyError('evidence-kind', `evidence of kind ${platform.kind} cannot be appraised yet`, { kind });
  }
  const { measurement } = platform;
  if (policy.measurements !== 'any' && !policy.measurements.includes(measurement)) {
    throw new PolicyError('measurement', 'the enclave runs code that the policy does not name', { measurement });
  }
  return brandAppraised(evidence);
}
