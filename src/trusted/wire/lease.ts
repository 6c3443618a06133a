// Leases: where a licence asks for them, the enclave releases only what the service has covered in advance. Zone: trusted.
// A lease is debited at the service when it is issued and lives in the enclave's process memory alone, so an old copy of the
// sealed state brings back no budget: after a restart the enclave must ask again, and the service knows what it gave.
import { parseCanonicalJson } from './canonical-json.js';
import { Fields } from './fields.js';
import { type PublicKeyBytes, verifyJws } from './jws.js';
import { MAX_LICENCE_BYTES } from './limits.js';

export interface LeaseNames {
  readonly licenceId: string;
  /** Key id of the enclave's signing key, as attested. */
  readonly enclaveKeyId: string;
  /** Base64url of 32 random bytes, new for every lease; never stored. */
  readonly nonce: string;
}

/** Signed by the enclave. Asking twice with one nonce yields one lease. */
export interface LeaseRequest extends LeaseNames {
  /** Positions charged so far by the enclave's own count. */
  readonly chargedTokens: number;
}

/** Signed by the owner; the names are those of the request. */
export interface Lease extends LeaseNames {
  /** Positions that may be released on top of earlier leases of this process. */
  readonly tokens: number;
}

/** The fields that request and lease have in common. */
export function readLeaseNames(fields: Fields): LeaseNames {
  return {
    licenceId: fields.text('licenceId', /^[A-Za-z0-9_-]{1,64}$/),
    enclaveKeyId: fields.text('enclaveKeyId', /^[A-Za-z0-9_-]{43}$/),
    nonce: fields.text('nonce', /^[A-Za-z0-9_-]{43}$/),
  };
}

/** Throws MalformedError or VerificationError; see `verifyJws`. */
export function verifyLease(jws: string, ownerKey: PublicKeyBytes): Lease {
  const fields = new Fields(parseCanonicalJson(verifyJws('lease', jws, ownerKey), MAX_LICENCE_BYTES), 'lease');
  const lease: Lease = { ...readLeaseNames(fields), tokens: fields.integer('tokens', 1, Number.MAX_SAFE_INTEGER) };
  fields.end();
  return lease;
}
