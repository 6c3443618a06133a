// What the licence service refuses, as errors with a class to react to. Zone: edge.
// Its words are shown, but only as plain text of limited length: the service, or whoever answers in its place, is not trusted.
import { z } from 'zod';
import {
  type DistillockError,
  type ErrorDetails,
  PolicyError,
  ProtocolError,
  VerificationError,
} from '../../trusted/wire/errors.js';

type ErrorClass = new (code: string, message: string, details?: ErrorDetails) => DistillockError;

const CLASSES: Readonly<Record<string, ErrorClass>> = {
  'challenge-unknown': ProtocolError,
  'challenge-expired': ProtocolError,
  'challenge-used': ProtocolError,
  'lease-nonce-used': ProtocolError,
  'not-found': ProtocolError,
  'evidence-rejected': VerificationError,
  signature: VerificationError,
};

const code = z.string().regex(/^[a-z0-9-]{1,64}$/);
const errorSchema = z.object({ error: z.object({ code, message: z.string(), reason: code.optional() }) });

/** The error for a reply that is not 2xx; its `code` is the service's own. */
export function refusalOfService(host: string, status: number, body: unknown): DistillockError {
  const parsed = errorSchema.safeParse(body);
  if (!parsed.success) {
    const message = `${host} answered with HTTP status ${status} and not as a licence service does; check licence_service`;
    return new ProtocolError('service-reply', message, { service: host, status });
  }
  const { code: name, message, reason } = parsed.data.error;
  // These statuses say no to this licence; everything else is a fault between the two programs.
  const ErrorType = CLASSES[name] ?? ([401, 403, 404, 409, 410].includes(status) ? PolicyError : ProtocolError);
  const because = reason === undefined ? '' : ` (${reason})`;
  const details = { service: host, status, ...(reason === undefined ? {} : { reason }) };
  return new ErrorType(name, `the licence service refused: ${plain(message)}${because}`, details);
}

/** Printable and short: no control or direction characters reach the terminal. */
function plain(text: string): string {
  const printable = text.replaceAll(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ').trim();
  return printable.length <= 300 ? printable : `${printable.slice(0, 300)}…`;
}
