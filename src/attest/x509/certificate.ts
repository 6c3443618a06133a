// X.509 certificates as the verifiers of SNP and TPM evidence need them. Zone: owner (verifier). RFC 5280.
// node:crypto checks signatures; what it does not expose (exact extensions, exact times, raw names) is read here.
import { createHash, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { MalformedError, UnsupportedError, VerificationError } from '../../trusted/wire/errors.js';
import { DerReader, decodeOid, decodeSmallInteger, decodeTime, type Element, malformedDer, TAG } from './der.js';

export interface Extension {
  readonly critical: boolean;
  readonly value: Uint8Array;
}

export interface Certificate {
  readonly der: Uint8Array;
  /** Hex of the serial number's content. */
  readonly serial: string;
  /** Raw DER names; compare these, never their text. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** One per line, for people: `CN=…`. */
  readonly subjectText: string;
  readonly commonName: string | null;
  /** Unix seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly signatureAlgorithm: string;
  /** Hex SHA-256 of the subject public key info. */
  readonly spkiSha256: string;
  readonly publicKey: KeyObject;
  readonly extensions: ReadonlyMap<string, Extension>;
  readonly isCa: boolean;
  /** null: no limit. */
  readonly pathLength: number | null;
  /** RFC 5280 bit numbers; null when the extension is absent. */
  readonly keyUsage: ReadonlySet<number> | null;
}

export const KEY_USAGE = { certSign: 5, crlSign: 6 } as const;
const OID = {
  commonName: '2.5.4.3',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  rsaesOaep: '1.2.840.113549.1.1.7',
} as const;
/** AlgorithmIdentifier of rsaEncryption. */
const RSA_ENCRYPTION = Buffer.from('300d06092a864886f70d0101010500', 'hex');
const MAX_CERTIFICATE_BYTES = 16 * 1024;

/** Throws MalformedError unless `der` is exactly one certificate. `where` names it in messages. */
export function parseCertificate(der: Uint8Array, where: string): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) throw malformedDer('is larger than 16 KiB', where);
  const outer = new DerReader(der, where);
  const certificate = outer.enter();
  outer.end();
  const tbs = certificate.enter();
  const signatureAlgorithm = certificate.take(TAG.sequence);
  certificate.take(TAG.bitString);
  certificate.end();

  const version = tbs.enter(0xa0);
  if (decodeSmallInteger(version.take(TAG.integer).content, where) !== 2) throw malformedDer('is not X.509 v3', where);
  version.end();
  const serial = encodeHex(tbs.take(TAG.integer).content);
  if (!equalBytes(tbs.take(TAG.sequence).raw, signatureAlgorithm.raw)) {
    throw malformedDer('names two signature algorithms', where);
  }
  const issuer = tbs.take(TAG.sequence);
  const validity = tbs.enter();
  const notBefore = decodeTime(validity.take(), where);
  const notAfter = decodeTime(validity.take(), where);
  validity.end();
  const subject = tbs.take(TAG.sequence);
  const spki = tbs.take(TAG.sequence);
  const tagged = tbs.enter(0xa3);
  tbs.end();
  const extensions = parseExtensions(tagged.enter(), where);
  tagged.end();

  const { x509, publicKey } = opened(der, spki, where);
  return {
    der,
    serial,
    issuer: issuer.raw,
    subject: subject.raw,
    subjectText: x509.subject.split('\n').join(', '),
    commonName: commonNameOf(subject.content, where),
    notBefore,
    notAfter,
    signatureAlgorithm: decodeOid(new DerReader(signatureAlgorithm.content, where).take(TAG.oid).content, where),
    spkiSha256: createHash('sha256').update(spki.raw).digest('hex'),
    publicKey,
    extensions,
    ...constraintsOf(extensions, where),
  };
}

function opened(der: Uint8Array, spki: Element, where: string): { x509: X509Certificate; publicKey: KeyObject } {
  try {
    const x509 = new X509Certificate(der);
    const plain = plainRsa(spki, where);
    return { x509, publicKey: plain === null ? x509.publicKey : createPublicKey(plain) };
  } catch (cause) {
    throw new MalformedError('der', `${where}: is not a certificate that OpenSSL can read`, { where }, cause);
  }
}

/** Some TPM vendors mark the RSA key as for OAEP only, which OpenSSL does not read: the same key, marked as plain RSA. */
function plainRsa(spki: Element, where: string): { key: Buffer; format: 'der'; type: 'spki' } | null {
  const reader = new DerReader(spki.content, where);
  const algorithm = decodeOid(reader.enter().take(TAG.oid).content, where);
  if (algorithm !== OID.rsaesOaep) return null;
  const { raw: bits } = reader.take(TAG.bitString);
  reader.end();
  const size = RSA_ENCRYPTION.length + bits.length;
  const header = Buffer.from([TAG.sequence, 0x82, size >> 8, size & 0xff]);
  return { key: Buffer.concat([header, RSA_ENCRYPTION, bits]), format: 'der', type: 'spki' };
}

export function parseExtensions(list: DerReader, where: string): Map<string, Extension> {
  const extensions = new Map<string, Extension>();
  while (!list.done) {
    const entry = list.enter();
    const oid = decodeOid(entry.take(TAG.oid).content, where);
    const critical = entry.peek() === TAG.boolean && entry.take().content[0] === 0xff;
    const { content } = entry.take(TAG.octetString);
    entry.end();
    if (extensions.has(oid)) throw malformedDer(`has the extension ${oid} twice`, where);
    extensions.set(oid, { critical, value: content });
  }
  return extensions;
}

function commonNameOf(name: Uint8Array, where: string): string | null {
  const sets = new DerReader(name, where);
  let found: string | null = null;
  while (!sets.done) {
    const set = sets.enter(0x31);
    while (!set.done) {
      const attribute = set.enter();
      const oid = decodeOid(attribute.take(TAG.oid).content, where);
      const value = new TextDecoder().decode(attribute.take().content);
      attribute.end();
      if (oid !== OID.commonName) continue;
      if (found !== null) throw malformedDer('has two common names', where);
      found = value;
    }
  }
  return found;
}

function constraintsOf(
  extensions: ReadonlyMap<string, Extension>,
  where: string,
): Pick<Certificate, 'isCa' | 'pathLength' | 'keyUsage'> {
  let isCa = false;
  let pathLength: number | null = null;
  const constraints = extensions.get(OID.basicConstraints);
  if (constraints !== undefined) {
    const outer = new DerReader(constraints.value, where);
    const body = outer.enter();
    outer.end();
    isCa = body.peek() === TAG.boolean && body.take().content[0] === 0xff;
    if (!body.done) pathLength = decodeSmallInteger(body.take(TAG.integer).content, where);
    body.end();
  }
  const usage = extensions.get(OID.keyUsage);
  let keyUsage: Set<number> | null = null;
  if (usage !== undefined) {
    const outer = new DerReader(usage.value, where);
    const bits = outer.take(TAG.bitString).content.subarray(1);
    outer.end();
    keyUsage = new Set();
    for (const [i, byte] of bits.entries()) {
      for (let bit = 0; bit < 8; bit++) if ((byte & (0x80 >> bit)) !== 0) keyUsage.add(8 * i + bit);
    }
  }
  return { isCa, pathLength, keyUsage };
}

/** Throws VerificationError('certificate-time') unless `now` (Unix seconds, whole) lies in the certificate's validity. */
export function checkValidity(certificate: Certificate, now: number, where: string): void {
  checkNow(now);
  if (now < certificate.notBefore || now > certificate.notAfter) {
    const side = now < certificate.notBefore ? 'is not valid yet' : 'has expired';
    throw new VerificationError('certificate-time', `the ${where} certificate ${side}`, {
      where,
      notBefore: certificate.notBefore,
      notAfter: certificate.notAfter,
      now,
    });
  }
}

/** Callers may get the time from JSON: NaN compares false with everything and would pass every window. */
export function checkNow(now: number): void {
  if (!Number.isSafeInteger(now) || now < 0) {
    throw new MalformedError('now', 'the time to verify at must be whole Unix seconds');
  }
}

/**
 * Throws VerificationError unless `issuer` may sign certificates and signed this one: 'certificate-issuer' (names, CA bits),
 * 'certificate-signature'.
 */
export function checkIssuedBy(certificate: Certificate, issuer: Certificate, where: string): void {
  const maySign = issuer.isCa && (issuer.keyUsage === null || issuer.keyUsage.has(KEY_USAGE.certSign));
  if (!maySign || !equalBytes(certificate.issuer, issuer.subject)) {
    throw new VerificationError(
      'certificate-issuer',
      `the ${where} certificate was not issued by the CA given for it`,
      {
        where,
      },
    );
  }
  let holds = false;
  try {
    holds = new X509Certificate(certificate.der).verify(issuer.publicKey);
  } catch {
    // A signature of another algorithm than the issuer's key: as wrong as a wrong one.
  }
  if (!holds) {
    throw new VerificationError('certificate-signature', `the ${where} certificate's signature does not verify`, {
      where,
    });
  }
}

/** Throws UnsupportedError when the certificate demands that something be understood which is neither read here nor in `known`. */
export function checkCritical(certificate: Certificate, known: readonly string[], where: string): void {
  for (const [oid, { critical }] of certificate.extensions) {
    if (critical && oid !== OID.keyUsage && oid !== OID.basicConstraints && !known.includes(oid)) {
      throw new UnsupportedError(
        'certificate-extension',
        `the ${where} certificate has the critical extension ${oid}`,
        {
          where,
          oid,
        },
      );
    }
  }
}
