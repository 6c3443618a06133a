// A licence: what one enclave may do with one bundle. Zone: trusted. DESIGN section 7.
// It is canonical JSON, signed by the owner; only the enclave whose key it names accepts it.
import { parseCanonicalJson } from './canonical-json.js';
import { MalformedError } from './errors.js';
import { Fields } from './fields.js';
import { type PublicKeyBytes, verifyJws } from './jws.js';
import { MAX_LICENCE_BYTES, MAX_VOCAB_SIZE } from './limits.js';
import type { Precision } from './status.js';

export interface Licence {
  readonly licenceId: string;
  readonly bundleId: string;
  /** Positions that may be released in total. */
  readonly budgetTokens: number;
  /** Positions that one lease covers; 0: no leases, and nothing leaves the device after `unlock`. See lease.ts. */
  readonly leaseTokens: number;
  /** Largest k of a release. */
  readonly topK: number;
  /** Precision of the log-probabilities that leave. */
  readonly precision: Precision;
  readonly temperature: { readonly min: number; readonly max: number };
  /** Unix seconds, both ends included. */
  readonly notBefore: number;
  readonly expires: number;
  /** Key id of the attested enclave's signing key. */
  readonly enclaveKeyId: string;
}

const MAX_TIME = 253402300799; // 9999-12-31
const MAX_BUDGET = 1e15;
const MAX_TEMPERATURE = 1000;

/** Throws MalformedError on a missing, unknown or out-of-range term. */
export function parseLicence(bytes: Uint8Array): Licence {
  const fields = new Fields(parseCanonicalJson(bytes, MAX_LICENCE_BYTES), 'licence');
  const range = fields.record('temperature');
  const licence: Licence = {
    licenceId: fields.text('licenceId', /^[A-Za-z0-9_-]{1,64}$/),
    bundleId: fields.text('bundleId', /^[0-9a-f]{64}$/),
    budgetTokens: fields.integer('budgetTokens', 1, MAX_BUDGET),
    leaseTokens: fields.integer('leaseTokens', 0, MAX_BUDGET),
    topK: fields.integer('topK', 1, MAX_VOCAB_SIZE),
    precision: fields.choice('precision', ['float32', 'float16']),
    temperature: { min: range.number('min', 0, MAX_TEMPERATURE), max: range.number('max', 0, MAX_TEMPERATURE) },
    notBefore: fields.integer('notBefore', 0, MAX_TIME),
    expires: fields.integer('expires', 0, MAX_TIME),
    enclaveKeyId: fields.text('enclaveKeyId', /^[A-Za-z0-9_-]{43}$/),
  };
  range.end();
  fields.end();
  if (licence.temperature.min > licence.temperature.max || licence.notBefore > licence.expires) {
    throw new MalformedError(
      'licence',
      'licence: a range ends before it begins (temperature, or notBefore and expires)',
    );
  }
  return licence;
}

/** Throws MalformedError or VerificationError; see `verifyJws`. */
export function verifyLicence(jws: string, ownerKey: PublicKeyBytes): Licence {
  return parseLicence(verifyJws('licence', jws, ownerKey));
}
