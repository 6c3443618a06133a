// The closed set of refusals that can cross the enclave's boundary: a number and at most two integers, never text.
// Zone: trusted. The position in the list is the number on the wire: append, never reorder.

export const REFUSALS = [
  'internal',
  'malformed',
  'not-attested',
  'not-unlocked',
  'destroyed',
  'grant-unreadable',
  'licence-malformed',
  'licence-signature',
  'licence-other-bundle',
  'licence-other-enclave',
  'licence-replayed',
  'licence-not-yet-valid',
  'licence-expired',
  'bundle-key-wrong',
  'budget-exhausted',
  'top-k-too-large',
  'temperature-not-licensed',
  'too-many-licences',
  'too-many-sessions',
  'unknown-session',
  'token-out-of-range',
  'release-not-authorised',
  'release-malformed',
  'state-not-saved',
  'part-not-held',
  'pass-unknown',
  'cache-length',
  'memory-exceeded',
  'positions-exceeded',
  'lease-needed',
  'lease-refused',
] as const;

export type Refusal = (typeof REFUSALS)[number];
