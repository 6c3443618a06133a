// Evidence of any kind → verified evidence: one entry for the licence service and the command line. Zone: owner (verifier).
// RATS, RFC 9334. Pure: time, nonce, roots and collateral come in. What the facts are worth is the policy's question.
import { DistillockError, MalformedError, UnsupportedError, VerificationError } from '../../trusted/wire/errors.js';
import { parseDcapQuote } from '../dcap/quote.js';
import { verifyDcapQuote } from '../dcap/verify-dcap.js';
import { appraise } from '../policy/appraise.js';
import type { AttestationPolicy } from '../policy/policy.js';
import { type TrustRoots, trustRoots } from '../policy/trust-roots.js';
import { parseSnpQuote } from '../snp/certificate-table.js';
import { verifySnpQuote } from '../snp/verify.js';
import type { ActivatedKey } from '../tpm/activated-key.js';
import { parseTpmQuote } from '../tpm/quote.js';
import { verifyTpmQuote } from '../tpm/verify.js';
import type { AppraisedEvidence, VerifiedEvidence, VerifiedQuote } from '../verified.js';
import { bindEvidence } from './bind.js';
import { type Collateral, fittingCollateral } from './collateral.js';
import { decodeEvidence } from './decode-evidence.js';
import { verifySimulatedQuote } from './simulated.js';

export interface QuoteContext {
  /** Unix seconds. */
  readonly now: number;
  readonly roots: TrustRoots;
  readonly collateral?: Collateral | undefined;
  /** For kind `tpm`: attestation keys that a TPM has proven to hold (tpm/activated-key.ts) under `roots.endorsementCas`. */
  readonly activatedKeys?: readonly ActivatedKey[] | undefined;
}

export interface EvidenceContext extends QuoteContext {
  /** The 32 bytes that the verifier chose for this enclave. */
  readonly nonce: Uint8Array;
}

/** Verifies evidence as an enclave sends it. Throws MalformedError, UnsupportedError or VerificationError. */
export function verifyEvidence(bytes: Uint8Array, context: EvidenceContext): VerifiedEvidence {
  const evidence = decodeEvidence(bytes);
  return bindEvidence(evidence, verifyQuote(evidence.claims.kind, evidence.quote, context), context.nonce);
}

/** Verifies under the policy's roots and appraises. Throws what `verifyEvidence` throws, and PolicyError. */
export function appraiseEvidence(
  bytes: Uint8Array,
  policy: AttestationPolicy,
  context: Omit<EvidenceContext, 'roots'>,
): AppraisedEvidence {
  return appraise(verifyEvidence(bytes, { ...context, roots: trustRoots(policy) }), policy, context.now);
}

/** Verifies a quote by itself: who made it and about which platform. What it is over stands in `reportData`. */
export function verifyQuote(kind: string, bytes: Uint8Array, context: QuoteContext): VerifiedQuote {
  const { now, roots, collateral = {} } = context;
  if (!Number.isSafeInteger(now) || now < 0) {
    throw new MalformedError('now', 'the time of verification must be whole Unix seconds');
  }
  switch (kind) {
    case 'simulated':
      if (roots.simulated.length === 0)
        throw new VerificationError('simulated-root', 'no root of a SIMULATED platform is pinned');
      return underOneOf(roots.simulated, (root) => verifySimulatedQuote(bytes, root));
    case 'sgx':
    case 'tdx': {
      const quote = parseDcapQuote(bytes);
      if (quote.body.kind !== kind)
        throw new VerificationError('evidence-kind', `a quote of kind ${quote.body.kind} was sent as ${kind}`);
      const fitting = fittingCollateral(quote, collateral.dcap ?? [], now);
      return underOneOf(roots.intel, (root) => verifyDcapQuote(quote, { now, collateral: fitting, root }));
    }
    case 'snp': {
      const quote = parseSnpQuote(bytes);
      return underOneOf(roots.amd, (amd) => verifySnpQuote(quote, { now, collateral: collateral.snp, roots: amd }));
    }
    case 'tpm':
      return verifyTpmQuote(parseTpmQuote(bytes), { now, activatedKeys: context.activatedKeys ?? [] });
    default:
      throw new UnsupportedError('evidence-kind', `this release verifies no evidence of kind ${kind}`, { kind });
  }
}

/** Codes of a quote that another root may still vouch for. */
const OTHER_ROOT: ReadonlySet<string> = new Set(['root', 'snp-root', 'signature']);

function underOneOf<Root>(roots: readonly Root[], verify: (root: Root) => VerifiedQuote): VerifiedQuote {
  let refusal: unknown;
  for (const root of roots) {
    try {
      return verify(root);
    } catch (error) {
      if (!(error instanceof DistillockError && OTHER_ROOT.has(error.code))) throw error;
      refusal ??= error;
    }
  }
  throw refusal;
}
