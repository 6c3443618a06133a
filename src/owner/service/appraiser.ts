// The seam between the service and whoever judges evidence: bytes in, appraised evidence out. Zone: owner (verifier).
// Policy and collateral live in files that change under a running service: collateral expires, pins are added.
import type { Collateral } from '../../attest/evidence/collateral.js';
import { appraiseEvidence } from '../../attest/evidence/verify-evidence.js';
import type { AttestationPolicy } from '../../attest/policy/policy.js';
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

export interface Reference {
  readonly policy: AttestationPolicy;
  readonly collateral: Collateral;
}

/** Judges by one policy. A TPM's quote is refused: its key must first be activated, which takes a dialogue that this API lacks. */
export function appraiserOf({ policy, collateral }: Reference): Appraiser {
  return (evidence, nonce, now) => appraiseEvidence(evidence, policy, { nonce, now, collateral });
}

export interface FreshAppraiser {
  readonly appraiser: Appraiser;
  stop(): void;
}

/** Reads the reference now and every `everyMs`. A later reading that fails is reported, and the one before stays in force. */
export async function freshAppraiser(options: {
  readonly read: () => Promise<Reference>;
  readonly everyMs: number;
  readonly onFailure: (error: unknown) => void;
}): Promise<FreshAppraiser> {
  let current = appraiserOf(await options.read());
  const timer = setInterval(() => {
    options.read().then((reference) => {
      current = appraiserOf(reference);
    }, options.onFailure);
  }, options.everyMs);
  timer.unref();
  return { appraiser: (evidence, nonce, now) => current(evidence, nonce, now), stop: () => clearInterval(timer) };
}
