// Turns the enclave's refusal codes into errors with a class to react to and a sentence to read. Zone: edge.
// The enclave sends numbers only; every word a user sees is written here.
import type { Refusal } from '../../trusted/wire/error-codes.js';
import {
  type DistillockError,
  EnvironmentError,
  type ErrorDetails,
  PolicyError,
  ProtocolError,
  VerificationError,
} from '../../trusted/wire/errors.js';
import type { ErrorReply } from '../../trusted/wire/messages.js';

type ErrorClass = new (code: string, message: string, details?: ErrorDetails) => DistillockError;

const ERRORS: Readonly<Record<Refusal, readonly [ErrorClass, string]>> = {
  internal: [ProtocolError, 'the enclave failed inside and released nothing; restart it and resume'],
  malformed: [ProtocolError, 'the enclave could not read the request'],
  'not-attested': [PolicyError, 'the enclave has not been attested since it started; attest it first'],
  'not-unlocked': [PolicyError, 'the enclave is locked; unlock it with a grant from the owner'],
  destroyed: [PolicyError, 'the teacher in this enclave has been destroyed; this is final'],
  'grant-unreadable': [
    VerificationError,
    'the grant was sealed to another enclave process, or altered; ask for a new one',
  ],
  'licence-malformed': [VerificationError, 'the grant holds no valid licence'],
  'licence-signature': [VerificationError, 'the licence was not signed by the owner of this bundle'],
  'licence-other-bundle': [PolicyError, 'the licence is for another bundle'],
  'licence-other-enclave': [PolicyError, 'the licence is for another enclave'],
  'licence-replayed': [PolicyError, 'the licence was used in this enclave before; ask for a new one'],
  'licence-not-yet-valid': [PolicyError, 'the licence is not valid yet'],
  'licence-expired': [PolicyError, 'the licence has expired; ask the owner for a new one'],
  'bundle-key-wrong': [VerificationError, 'the key in the grant does not open enclave.sealed of this bundle'],
  'budget-exhausted': [PolicyError, 'the token budget of the licence does not cover this release'],
  'top-k-too-large': [PolicyError, 'top-k is larger than licensed'],
  'temperature-not-licensed': [PolicyError, 'the temperature is outside the licensed range'],
  'too-many-licences': [PolicyError, 'this enclave has used as many licences as it can remember; start a new one'],
  'too-many-sessions': [PolicyError, 'too many open sessions; end some'],
  'unknown-session': [
    ProtocolError,
    'the enclave does not know this session (it was restarted or unlocked again); begin a new one',
  ],
  'token-out-of-range': [PolicyError, 'a token id is outside the vocabulary of the teacher'],
  'release-not-authorised': [PolicyError, 'more rows than tokens that were authorised in this session'],
  'release-malformed': [
    ProtocolError,
    'a row holds ids out of range or repeated, or values that are no log-probabilities',
  ],
  'part-not-held': [ProtocolError, 'the request is for a part that this bundle places elsewhere'],
  'pass-unknown': [ProtocolError, 'the enclave does not hold the hidden states of this pass any more'],
  'cache-length': [
    ProtocolError,
    'the key/value cache in the enclave has another length than the request goes on from',
  ],
  'memory-exceeded': [
    PolicyError,
    'the batch does not fit into the trusted memory; raise --tee-memory or use shorter sequences',
  ],
  'positions-exceeded': [
    PolicyError,
    'the model has learned fewer positions than this text is long; use shorter texts',
  ],
  'lease-needed': [PolicyError, 'the licence asks for a lease from the licence service before this release'],
  'lease-refused': [
    VerificationError,
    "this is not the owner's answer to the enclave's open lease request (or the licence needs no leases); ask again",
  ],
  'state-not-saved': [EnvironmentError, 'the enclave could not save its counters, so it released nothing (disk full?)'],
};

/** What each refusal's two integers mean; absent: they are 0. Times are Unix seconds. */
const REFUSAL_NUMBERS: Readonly<Partial<Record<Refusal, readonly [string, string?]>>> = {
  'budget-exhausted': ['remainingTokens', 'requestedTokens'],
  'licence-expired': ['expires', 'now'],
  'licence-not-yet-valid': ['notBefore', 'now'],
  'top-k-too-large': ['licensedTopK', 'requestedTopK'],
  'token-out-of-range': ['position'],
  'release-not-authorised': ['authorisedTokens', 'requestedTokens'],
  'release-malformed': ['row'],
  'part-not-held': ['segment'],
  'cache-length': ['cachedTokens', 'requestedTokens'],
  'memory-exceeded': ['memoryBytes', 'neededBytes'],
  'lease-needed': ['leasedTokens', 'requestedTokens'],
  'positions-exceeded': ['knownPositions', 'requestedTokens'],
};

/** The error for a refusal; its `code` is the refusal, its `details` are the numbers sent with it. */
export function refusalError(reply: ErrorReply): DistillockError {
  const [ErrorType, message] = ERRORS[reply.refusal];
  const names = REFUSAL_NUMBERS[reply.refusal] ?? [];
  const details = Object.fromEntries(names.map((name, i) => [name, reply.numbers[i] ?? 0]));
  const numbers = Object.entries(details).map(([name, value]) => `${name} ${value}`);
  return new ErrorType(reply.refusal, numbers.length === 0 ? message : `${message} (${numbers.join(', ')})`, details);
}
