// base64url without padding (RFC 4648 section 5), as JSON Web Signatures use it. Zone: trusted.
// Strict: every byte string has exactly one accepted text, so a signed text cannot be rewritten unnoticed.
import { MalformedError } from './errors.js';

export function encodeBase64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}

/** Throws MalformedError on padding, foreign characters, an impossible length or bits that encode nothing. */
export function decodeBase64url(text: string): Uint8Array {
  // Node leaves out what it does not know; text that comes back different had some of that.
  const bytes = new Uint8Array(Buffer.from(text, 'base64url'));
  if (encodeBase64url(bytes) !== text)
    throw new MalformedError(
      'base64url',
      'base64url text has padding, foreign characters, stray bits or a part missing',
    );
  return bytes;
}
