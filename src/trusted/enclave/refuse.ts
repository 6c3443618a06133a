// A refusal: the only kind of failure that has a meaning outside the enclave. Zone: trusted.
// It carries a code of the closed set and at most two integers; text never crosses the boundary.
import type { Refusal } from '../wire/error-codes.js';
import { MalformedError } from '../wire/errors.js';

export class RefusalError extends Error {
  readonly refusal: Refusal;
  readonly numbers: readonly [number, number];

  constructor(refusal: Refusal, first = 0, second = 0) {
    super(refusal);
    this.refusal = refusal;
    this.numbers = [first, second];
  }
}

export function refuse(refusal: Refusal, first = 0, second = 0): never {
  throw new RefusalError(refusal, first, second);
}

/** What `make` gives; the refusal when it throws. */
export function orRefuse<T>(refusal: Refusal, make: () => T): T {
  try {
    return make();
  } catch {
    return refuse(refusal);
  }
}

/** Whatever was thrown, as a refusal: bad bytes are `malformed`, a bug is `internal`, and neither says more. */
export function toRefusal(error: unknown): RefusalError {
  if (error instanceof RefusalError) return error;
  return new RefusalError(error instanceof MalformedError ? 'malformed' : 'internal');
}
