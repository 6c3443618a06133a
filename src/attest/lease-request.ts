// Verifies an enclave's request for a lease, for the service that issues them. Zone: owner (verifier). See trusted/wire/lease.ts.
// The key is the signing key of the evidence that the licence was granted on.
import { parseCanonicalJson } from '../trusted/wire/canonical-json.js';
import { Fields } from '../trusted/wire/fields.js';
import { type PublicKeyBytes, verifyJws } from '../trusted/wire/jws.js';
import { type LeaseRequest, readLeaseNames } from '../trusted/wire/lease.js';
import { MAX_LICENCE_BYTES } from '../trusted/wire/limits.js';

/** Throws MalformedError or VerificationError; see `verifyJws`. */
export function verifyLeaseRequest(jws: string, enclaveKey: PublicKeyBytes): LeaseRequest {
  const payload = verifyJws('lease-request', jws, enclaveKey);
  const fields = new Fields(parseCanonicalJson(payload, MAX_LICENCE_BYTES), 'lease request');
  const names = readLeaseNames(fields);
  const request: LeaseRequest = {
    ...names,
    chargedTokens: fields.integer('chargedTokens', 0, Number.MAX_SAFE_INTEGER),
  };
  fields.end();
  return request;
}
