// Certificates in PEM, as vendors publish their chains. Zone: owner (verifier). RFC 7468.
import { MalformedError } from '../../trusted/wire/errors.js';
import { type Certificate, parseCertificate } from './certificate.js';

const BLOCK = /-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----\s*/y;
const MAX_CERTIFICATES = 16;

/** Certificates in the order of the text. Throws MalformedError when anything else stands between them. */
export function parsePem(text: string, where: string): Certificate[] {
  const certificates: Certificate[] = [];
  const trimmed = text.trim();
  BLOCK.lastIndex = 0;
  while (BLOCK.lastIndex < trimmed.length) {
    const [, body] = BLOCK.exec(trimmed) ?? [];
    if (body === undefined || certificates.length === MAX_CERTIFICATES) {
      throw new MalformedError('pem', `${where}: expected up to ${MAX_CERTIFICATES} PEM certificates and nothing else`);
    }
    certificates.push(parseCertificate(Buffer.from(body, 'base64'), where));
  }
  return certificates;
}
