// A grant: bundle key and signed licence, sealed by HPKE (RFC 9180) to the key of one attested enclave. Zone: trusted.
// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; the bundle's id is the associated data.
import { encodeUtf8 } from './bytes.js';
import { Reader } from './codec.js';

export interface GrantContents {
  readonly bundleKey: Uint8Array;
  readonly licenceJws: string;
}

export interface SealedGrant {
  /** HPKE's encapsulated key. */
  readonly encapsulated: Uint8Array;
  readonly ciphertext: Uint8Array;
}

/** HPKE `info`: separates grants from anything else sealed to the same key. */
export const GRANT_INFO: Uint8Array = encodeUtf8('distillock grant v1');

/** Throws MalformedError. */
export function decodeGrantContents(body: Uint8Array): GrantContents {
  const reader = new Reader(body);
  const contents = { bundleKey: reader.raw(32), licenceJws: reader.text() };
  reader.end();
  return contents;
}

/** Throws MalformedError. */
export function decodeSealedGrant(bytes: Uint8Array): SealedGrant {
  const reader = new Reader(bytes);
  const grant = { encapsulated: reader.bytes(), ciphertext: reader.bytes() };
  reader.end();
  return grant;
}
