// Byte strings as text and back, joined, compared. Zone: trusted.
// Small, strict and shared: hex is lower case, UTF-8 must be valid.
import { timingSafeEqual } from 'node:crypto';
import { MalformedError } from './errors.js';

export function encodeUtf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Throws MalformedError on invalid UTF-8; a byte order mark is kept, never dropped. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new MalformedError('utf8', 'text is not valid UTF-8', {}, cause);
  }
}

export function encodeHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Throws MalformedError unless `text` is `length` bytes in lower-case hex. */
export function decodeHex(text: string, length: number): Uint8Array {
  if (text.length !== 2 * length || !/^[0-9a-f]*$/.test(text)) {
    throw new MalformedError('hex', `expected ${length} bytes in lower-case hex`);
  }
  return new Uint8Array(Buffer.from(text, 'hex'));
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** In time that depends on the lengths alone. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
