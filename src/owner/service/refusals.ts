// What the licence service refuses, as stable codes with their HTTP status. Zone: owner.
// A refusal's message may reach anybody who can send a request, so it says nothing about other licences or devices.
import { DistillockError, MalformedError, PolicyError } from '../../trusted/wire/errors.js';

export const REFUSAL_STATUS = {
  malformed: 400,
  'body-too-large': 413,
  'not-found': 404,
  'bundle-unknown': 404,
  'challenge-unknown': 404,
  'challenge-expired': 410,
  'challenge-used': 409,
  'activation-code': 403,
  'evidence-rejected': 403,
  'licence-revoked': 403,
  'licence-closed': 403,
  'licence-expired': 403,
  'licence-used': 409,
  'devices-exhausted': 403,
  'device-unknown': 404,
  signature: 403,
  'leases-none': 409,
  'lease-nonce-used': 409,
  'budget-exhausted': 403,
  'database-unavailable': 503,
  internal: 500,
} as const;

export type RefusalCode = keyof typeof REFUSAL_STATUS;

const MESSAGES: Readonly<Partial<Record<RefusalCode, string>>> = {
  'bundle-unknown': 'no licence was issued for this bundle here; ask its owner for an activation code',
  'challenge-unknown': 'this service never gave out that nonce; ask for a new challenge',
  'challenge-expired': 'the challenge has expired; ask for a new one and attest again',
  'challenge-used': 'the nonce was answered for other evidence; ask for a new challenge and attest again',
  'activation-code': 'no licence for this bundle has that activation code',
  'licence-revoked': 'the owner has revoked the licence',
  'licence-closed': 'the licence was closed by a receipt of destruction',
  'licence-expired': 'the licence has expired',
  'licence-used': 'this device has had this licence already; renewing takes a further licence',
  'devices-exhausted': 'as many devices as the licence allows have it',
  'device-unknown': 'the device holds no such licence from this service',
  'leases-none': 'the licence needs no leases',
  'lease-nonce-used': 'another lease was asked for with this nonce; ask with a new one',
  'budget-exhausted': "the licence's budget is used up",
};

/** The error to throw for a refusal; `reason` is the verifier's or the policy's own code. */
export function refusal(code: RefusalCode, details: { readonly reason?: string } = {}): PolicyError {
  return new PolicyError(code, MESSAGES[code] ?? code, details);
}

export interface RefusalReply {
  readonly status: number;
  readonly error: { readonly code: RefusalCode; readonly message: string; readonly reason?: string };
}

/** Any error as a reply: what is not a refusal is `internal` and says nothing about itself. */
export function describeRefusal(error: unknown): RefusalReply {
  const internal: RefusalReply = { status: 500, error: { code: 'internal', message: 'the service failed; try again' } };
  if (!(error instanceof DistillockError)) return internal;
  const { reason } = error.details;
  const known = Object.hasOwn(REFUSAL_STATUS, error.code) ? (error.code as RefusalCode) : null;
  if (known === null && !(error instanceof MalformedError)) return internal;
  const code = known ?? 'malformed';
  const more = typeof reason === 'string' ? { reason } : {};
  return { status: REFUSAL_STATUS[code], error: { code, message: error.message, ...more } };
}
