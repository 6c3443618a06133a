// The seam between the service and whoever judges evidence: bytes in, appraised evidence out. Zone: owner (verifier).
import { appraise } from '../../attest/appraise.js';
import { parseSimulated, verifySimulated } from '../../attest/evidence/simulated.js';
import type { AppraisedEvidence } from '../../attest/verified.js';

/**
 * Verifies evidence over the nonce and appraises it by a policy. Throws MalformedError, VerificationError, PolicyError or
 * UnsupportedError, whose code goes to the device as the reason. `now` is Unix seconds.
 */
export type Appraiser = (
  evidence: Uint8Array,
  nonce: Uint8Array,
  now: number,
) => AppraisedEvidence | Promise<AppraisedEvidence>;

/** Accepts SIMULATED evidence under pinned roots: no hardware vouches for it. `measurements`: hex, or any code. */
export function simulatedAppraiser(options: {
  readonly root: Uint8Array;
  readonly measurements: readonly string[] | 'any';
}): Appraiser {
  return (evidence, nonce) => {
    const verified = verifySimulated(parseSimulated(evidence), options.root, nonce);
    // Which bundles there are licences for is the service's own check.
    const policy = { kinds: ['simulated'], bundleIds: [verified.claims.bundleId], measurements: options.measurements };
    return appraise(verified, policy);
  };
}
