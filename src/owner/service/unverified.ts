// Which device a signed message claims to come from: needed to find the key that tells whether it is true. Zone: owner.
import { decodeBase64url } from '../../trusted/wire/base64url.js';
import { parseCanonicalJson } from '../../trusted/wire/canonical-json.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { MAX_RECEIPT_BYTES } from '../../trusted/wire/limits.js';

/** The enclave key id that the payload names; nothing is verified. Throws MalformedError. */
export function claimedEnclave(what: 'lease-request' | 'receipt', jws: string): string {
  const payload = parseCanonicalJson(decodeBase64url(jws.split('.')[1] ?? ''), MAX_RECEIPT_BYTES);
  const id = payload !== null && typeof payload === 'object' && 'enclaveKeyId' in payload ? payload.enclaveKeyId : null;
  if (typeof id === 'string' && /^[A-Za-z0-9_-]{43}$/.test(id)) return id;
  throw new MalformedError('malformed', `the ${what} names no enclave`);
}
