// Appraisal: does the owner's policy accept this verified evidence? Zone: owner (verifier). RATS, RFC 9334.
// Pure functions over one list of rules: `appraise` stops at the first that does not hold, `explain` shows them all.
import { MalformedError, PolicyError } from '../../trusted/wire/errors.js';
import type { Claims } from '../../trusted/wire/report-data.js';
import { type AppraisedEvidence, brandAppraised, type PlatformFacts, type VerifiedEvidence } from '../verified.js';
import type { AttestationPolicy } from './policy.js';
import { pinned, type Rule, rule, unchecked } from './rule.js';
import { sgxRules } from './rules/sgx-rules.js';
import { snpRules } from './rules/snp-rules.js';
import { tdxRules } from './rules/tdx-rules.js';
import { tpmRules } from './rules/tpm-rules.js';

/** What `explain` can look at: a raw quote has no claims. */
export interface ExplainedFacts {
  readonly claims: Claims | null;
  readonly platform: PlatformFacts;
}

/** Throws PolicyError, whose code is that of the first rule that does not hold. `now` in Unix seconds. */
export function appraise(evidence: VerifiedEvidence, policy: AttestationPolicy, now: number): AppraisedEvidence {
  const broken = explain(evidence, policy, now).find(({ verdict }) => verdict !== 'pass');
  if (broken === undefined) return brandAppraised(evidence);
  const { code, fact, expected, actual } = broken;
  const { kind } = evidence.platform;
  const message = `the policy refuses this ${kind} evidence: ${fact}: wanted ${expected}, got ${actual}`;
  throw new PolicyError(code, message, { kind, expected, actual });
}

/** Every rule of the policy for this kind of evidence, in the order in which `appraise` applies them. */
export function explain(facts: ExplainedFacts, policy: AttestationPolicy, now: number): readonly Rule[] {
  if (!Number.isSafeInteger(now) || now < 0) {
    throw new MalformedError('now', 'the time of appraisal must be whole Unix seconds');
  }
  const { claims, platform } = facts;
  return [kindRule(facts, policy), ...claimRules(claims, policy), ...platformRules(platform, policy, now)];
}

function kindRule({ claims, platform }: ExplainedFacts, policy: AttestationPolicy): Rule {
  const { kind } = platform;
  const named = Object.keys(policy).filter((key) => key !== 'bundles' && key !== 'extraRoots');
  const expected = named.length === 0 ? 'none' : named.join(' or ');
  const holds = policy[kind] !== undefined && (claims === null || claims.kind === kind);
  return rule('evidence-kind', 'kind of evidence', expected, kind, holds);
}

function claimRules(claims: Claims | null, policy: AttestationPolicy): readonly Rule[] {
  const binding = ['report-data', 'report data', 'the keys, bundle, owner and nonce'] as const;
  if (claims === null) {
    const why = 'not checked: raw quote';
    return [unchecked(...binding, why), unchecked('evidence-bundle', 'bundle', policy.bundles.join(' or '), why)];
  }
  return [
    // Evidence has no other way to become verified.
    rule(...binding, 'the same', true),
    pinned('evidence-bundle', 'bundle', policy.bundles, claims.bundleId),
  ];
}

function platformRules(platform: PlatformFacts, policy: AttestationPolicy, now: number): readonly Rule[] {
  switch (platform.kind) {
    case 'simulated':
      return policy.simulated === undefined
        ? []
        : [pinned('measurement', 'measurement', policy.simulated.measurements, platform.measurement)];
    case 'sgx':
      return policy.sgx === undefined ? [] : sgxRules(platform, policy.sgx, now);
    case 'tdx':
      return policy.tdx === undefined ? [] : tdxRules(platform, policy.tdx, now);
    case 'snp':
      return policy.snp === undefined ? [] : snpRules(platform, policy.snp);
    case 'tpm':
      return policy.tpm === undefined ? [] : tpmRules(platform, policy.tpm);
  }
}
