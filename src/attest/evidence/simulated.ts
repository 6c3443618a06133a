// Evidence of kind `simulated`: a quote signed by a software root that must be pinned by hand. Zone: owner (verifier).
// RATS, RFC 9334: parse → verify. It proves that the process knows the root's key, and nothing about hardware.
import { decodeHex, decodeUtf8, equalBytes } from '../../trusted/wire/bytes.js';
import { parseCanonicalJson } from '../../trusted/wire/canonical-json.js';
import { MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import { Fields } from '../../trusted/wire/fields.js';
import { type PublicKeyBytes, verifyJws } from '../../trusted/wire/jws.js';
import { MAX_EVIDENCE_BYTES } from '../../trusted/wire/limits.js';
import { type Evidence, reportData } from '../../trusted/wire/report-data.js';
import { brandVerified, type VerifiedEvidence } from '../verified.js';
import { decodeEvidence } from './decode-evidence.js';

/** Throws MalformedError unless `bytes` are evidence of kind `simulated`. */
export function parseSimulated(bytes: Uint8Array): Evidence {
  const evidence = decodeEvidence(bytes);
  if (evidence.claims.kind !== 'simulated') {
    throw new MalformedError('evidence-kind', 'the evidence is not of kind simulated', { kind: evidence.claims.kind });
  }
  return evidence;
}

/**
 * Throws VerificationError when the pinned `root` did not sign the quote ('signature') or when the quote is over other keys,
 * another bundle, owner or nonce ('report-data'). `nonce` is the one the verifier chose for this enclave.
 */
export function verifySimulated(evidence: Evidence, root: PublicKeyBytes, nonce: Uint8Array): VerifiedEvidence {
  const payload = verifyJws('simulated-quote', decodeUtf8(evidence.quote), root);
  const fields = new Fields(parseCanonicalJson(payload, MAX_EVIDENCE_BYTES), 'quote');
  fields.choice('kind', ['simulated']);
  fields.text('label', /^SIMULATED: /);
  const measurement = fields.text('measurement', /^[0-9a-f]{64}$/);
  const quoted = decodeHex(fields.text('reportData', /^[0-9a-f]{128}$/), 64);
  fields.end();
  if (!equalBytes(quoted, reportData(evidence.claims, nonce))) {
    throw new VerificationError(
      'report-data',
      'the quote is over other keys, another bundle, another owner or another nonce',
    );
  }
  return brandVerified({ claims: evidence.claims, platform: { kind: 'simulated', measurement } });
}
