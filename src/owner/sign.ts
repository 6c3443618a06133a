// Signs with the owner's Ed25519 key, through `jose`; trusted code verifies the same bytes with its own small verifier. Zone: owner.
import { CompactSign, importJWK } from 'jose';
import { encodeBase64url } from '../trusted/wire/base64url.js';
import { type JwsPurpose, jwsHeader } from '../trusted/wire/jws.js';
import type { OwnerKeys } from './owner-keys.js';

// Importing costs more than signing, and a service signs with the same few keys all day.
const imported = new WeakMap<OwnerKeys, ReturnType<typeof importJWK>>();

function importedKey(keys: OwnerKeys): ReturnType<typeof importJWK> {
  const known = imported.get(keys);
  if (known !== undefined) return known;
  const [d, x] = [encodeBase64url(keys.signingSecret), encodeBase64url(keys.signingKey)];
  const key = importJWK({ kty: 'OKP', crv: 'Ed25519', d, x }, 'EdDSA');
  imported.set(keys, key);
  return key;
}

/** A compact JWS. */
export async function signWithOwnerKey(purpose: JwsPurpose, payload: Uint8Array, keys: OwnerKeys): Promise<string> {
  const key = await importedKey(keys);
  return new CompactSign(payload).setProtectedHeader({ ...jwsHeader(purpose) }).sign(key);
}

/** The same with its payload left out (RFC 7515 appendix F): it travels next to the file it signs. */
export async function signDetached(purpose: JwsPurpose, payload: Uint8Array, keys: OwnerKeys): Promise<string> {
  const [header, , signature] = (await signWithOwnerKey(purpose, payload, keys)).split('.');
  return `${header}..${signature}`;
}
