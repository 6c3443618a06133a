// base64url without padding (RFC 4648 section 5), as JSON Web Signatures use it. Zone: trusted.
// Strict: every byte string has exactly one accepted text, so a signed text cannot be rewritten unnoticed.
import { MalformedError } from './errors.js';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const VALUES: Readonly<Record<string, number>> = Object.fromEntries([...ALPHABET].map((c, i) => [c, i]));

export function encodeBase64url(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const word = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += ALPHABET[word >>> 18]! + ALPHABET[(word >>> 12) & 63]!;
    if (left > 1) text += ALPHABET[(word >>> 6) & 63]!;
    if (left > 2) text += ALPHABET[word & 63]!;
  }
  return text;
}

/** Throws MalformedError on padding, foreign characters, an impossible length or bits that encode nothing. */
export function decodeBase64url(text: string): Uint8Array {
  const rest = text.length % 4;
  if (rest === 1) throw new MalformedError('base64url', 'base64url text has an impossible length');
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  let word = 0;
  let bits = 0;
  let at = 0;
  for (const char of text) {
    const value = Object.hasOwn(VALUES, char) ? VALUES[char]! : -1;
    if (value < 0) throw new MalformedError('base64url', 'base64url text has a character outside its alphabet');
    word = ((word << 6) | value) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = (word >>> bits) & 0xff;
    }
  }
  if ((word & ((1 << bits) - 1)) !== 0)
    throw new MalformedError('base64url', 'base64url text has stray bits at its end');
  return bytes;
}
