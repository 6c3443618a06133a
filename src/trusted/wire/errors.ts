// Errors every room shares: one base class with a literal code, one subclass per way a caller reacts.
// Zone: trusted (measured); it holds no secret. The message says what was wrong, where, and what to do.

/** Where an error happened: file, tensor, key, line, offset. Values are shown to the user, so never a secret. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean>>;

/** Base of every error distillock throws. Branch on `code`, never on `message`. */
export abstract class DistillockError extends Error {
  abstract readonly kind: string;
  readonly code: string;
  readonly details: ErrorDetails;

  constructor(code: string, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.details = details;
  }
}

/** Bytes, a file or a setting that cannot be read: truncated, bit-flipped, wrong type, unknown key. Fix the input. */
export class MalformedError extends DistillockError {
  readonly kind = 'malformed';
}

/** A signature, hash or authentication tag does not match. Do not trust the input. */
export class VerificationError extends DistillockError {
  readonly kind = 'verification';
}

/** The licence, budget or policy says no. Ask the owner. */
export class PolicyError extends DistillockError {
  readonly kind = 'policy';
}

/** The other side of a connection broke the protocol or went away. Restart and resume. */
export class ProtocolError extends DistillockError {
  readonly kind = 'protocol';
}

/** The input is well formed but this version cannot do it: architecture, quantisation, platform. */
export class UnsupportedError extends DistillockError {
  readonly kind = 'unsupported';
}

/** The machine could not do it: disk full, permission, a second run in the same folder. */
export class EnvironmentError extends DistillockError {
  readonly kind = 'environment';
}
