// Compact JSON Web Signatures with Ed25519 (RFC 7515, RFC 8037), and nothing else of that standard. Zone: trusted.
// The header must be, byte for byte, the one this file writes: no algorithm choice, `crit`, `b64`, `jwk` or `kid` can exist.
// `typ` separates purposes: a receipt can never pass for a licence.
import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { decodeBase64url, encodeBase64url } from './base64url.js';
import { encodeUtf8 } from './bytes.js';
import { MalformedError, VerificationError } from './errors.js';

export type JwsPurpose = 'manifest' | 'licence' | 'lease-request' | 'lease' | 'receipt' | 'simulated-quote';

/** Raw Ed25519 public key, 32 bytes. */
export type PublicKeyBytes = Uint8Array;

/** The one protected header allowed for a purpose. */
export function jwsHeader(purpose: JwsPurpose): { readonly alg: 'EdDSA'; readonly typ: string } {
  return { alg: 'EdDSA', typ: `distillock-${purpose}+jws` };
}

function headerPart(purpose: JwsPurpose): string {
  return encodeBase64url(encodeUtf8(JSON.stringify(jwsHeader(purpose))));
}

/** `secret` is the raw 32-byte Ed25519 private key. */
export function signJws(purpose: JwsPurpose, payload: Uint8Array, secret: Uint8Array, key: PublicKeyBytes): string {
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: encodeBase64url(secret), x: encodeBase64url(key) };
  const signed = `${headerPart(purpose)}.${encodeBase64url(payload)}`;
  const signature = sign(null, encodeUtf8(signed), createPrivateKey({ key: jwk, format: 'jwk' }));
  return `${signed}.${encodeBase64url(signature)}`;
}

/**
 * Returns the payload of a compact JWS, or checks a detached one (empty middle part) against `detached`.
 * Throws MalformedError when it is not a JWS of this purpose, VerificationError when `key` did not sign it.
 */
export function verifyJws(purpose: JwsPurpose, jws: string, key: PublicKeyBytes, detached?: Uint8Array): Uint8Array {
  const parts = jws.split('.');
  const [header, middle, signature] = parts as [string, string, string];
  if (parts.length !== 3 || header !== headerPart(purpose)) {
    throw new MalformedError('jws-header', `not a ${purpose} signature of the one accepted form`, { purpose });
  }
  if ((middle === '') !== (detached !== undefined)) {
    throw new MalformedError('jws-payload', `the ${purpose} signature must ${detached ? 'not ' : ''}carry its payload`);
  }
  const payload = detached ?? decodeBase64url(middle);
  const signed = encodeUtf8(`${header}.${encodeBase64url(payload)}`);
  const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: encodeBase64url(key) }, format: 'jwk' });
  if (!verify(null, signed, publicKey, decodeBase64url(signature))) {
    throw new VerificationError('signature', `the ${purpose} was not signed by the expected key, or was altered`, {
      purpose,
    });
  }
  return payload;
}

/** RFC 7638 thumbprint of an Ed25519 public key: how manifests and licences name an owner. */
export function keyId(key: PublicKeyBytes): string {
  const canonical = `{"crv":"Ed25519","kty":"OKP","x":"${encodeBase64url(key)}"}`;
  return encodeBase64url(createHash('sha256').update(encodeUtf8(canonical)).digest());
}
