// The step from a quote to evidence: the quote must be over exactly these claims and this nonce. Zone: owner (verifier).
import { timingSafeEqual } from 'node:crypto';
import { MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import { NONCE_BYTES } from '../../trusted/wire/limits.js';
import { type Evidence, reportData } from '../../trusted/wire/report-data.js';
import { brandVerified, type VerifiedEvidence, type VerifiedQuote } from '../verified.js';

/** Throws VerificationError ('report-data') unless `quote` is over the evidence's claims and `nonce`. */
export function bindEvidence(evidence: Evidence, quote: VerifiedQuote, nonce: Uint8Array): VerifiedEvidence {
  const { claims } = evidence;
  if (nonce.length !== NONCE_BYTES) throw new MalformedError('nonce', `a nonce has ${NONCE_BYTES} bytes`);
  if (claims.kind !== quote.platform.kind) {
    const message = `the evidence claims to be of kind ${claims.kind}, its quote is of kind ${quote.platform.kind}`;
    throw new VerificationError('evidence-kind', message);
  }
  const expected = reportData(claims, nonce);
  if (quote.reportData.length !== expected.length || !timingSafeEqual(quote.reportData, expected)) {
    throw new VerificationError(
      'report-data',
      'the quote is over other keys, another bundle, another owner or another nonce',
    );
  }
  return brandVerified({ claims, platform: quote.platform });
}
