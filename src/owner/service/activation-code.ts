// Activation codes: 128 random bits that the owner hands to whoever may use a licence. Zone: owner.
// So much chance cannot be guessed, so a plain hash suffices: no slow one in the path of every grant.
import { createHash, randomBytes } from 'node:crypto';

const DOMAIN = 'distillock activation code v1';

/** Eight groups of four hex digits. */
export function createActivationCode(): string {
  return randomBytes(16)
    .toString('hex')
    .replace(/(....)(?=.)/g, '$1-');
}

/** What the database keeps. Case, blanks and dashes do not matter; anything may be passed, a wrong code matches nothing. */
export function hashActivationCode(code: string): Uint8Array {
  const digits = code.toLowerCase().replace(/[\s-]/g, '');
  return new Uint8Array(createHash('sha256').update(`${DOMAIN}\0${digits}`).digest());
}
