// Certificate revocation lists, believed only when their issuer signed them and they are current. Zone: owner (verifier). RFC 5280.
// RSA-PSS with SHA-384, as AMD signs them. A list with critical extensions (delta, partial) is refused: it would not be the whole list.
import { constants, verify } from 'node:crypto';
import { encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { UnsupportedError, VerificationError } from '../../trusted/wire/errors.js';
import { type Certificate, checkNow, KEY_USAGE, parseExtensions } from './certificate.js';
import { DerReader, decodeOid, decodeSmallInteger, decodeTime, malformedDer, TAG } from './der.js';

export interface RevocationList {
  readonly issuer: Uint8Array;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Hex of the serial numbers' contents. */
  readonly revoked: ReadonlySet<string>;
  readonly signatureAlgorithm: string;
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

export const RSASSA_PSS = '1.2.840.113549.1.1.10';
const MAX_CRL_BYTES = 1 << 20;

/** Throws MalformedError unless `der` is exactly one revocation list. */
export function parseCrl(der: Uint8Array, where: string): RevocationList {
  if (der.length > MAX_CRL_BYTES) throw malformedDer('is larger than 1 MiB', where);
  const outer = new DerReader(der, where);
  const list = outer.enter();
  outer.end();
  const signed = list.take(TAG.sequence);
  const algorithm = list.take(TAG.sequence);
  const bits = list.take(TAG.bitString).content;
  list.end();
  if (bits[0] !== 0) throw malformedDer('has a signature of odd bits', where);

  const tbs = new DerReader(signed.content, where);
  if (decodeSmallInteger(tbs.take(TAG.integer).content, where) !== 1) throw malformedDer('is not a v2 list', where);
  if (!equalBytes(tbs.take(TAG.sequence).raw, algorithm.raw))
    throw malformedDer('names two signature algorithms', where);
  const issuer = tbs.take(TAG.sequence).raw;
  const thisUpdate = decodeTime(tbs.take(), where);
  const nextUpdate = decodeTime(tbs.take(), where);
  const revoked = new Set<string>();
  if (tbs.peek() === TAG.sequence) {
    const entries = tbs.enter();
    while (!entries.done) {
      const entry = entries.enter();
      revoked.add(encodeHex(entry.take(TAG.integer).content));
      decodeTime(entry.take(), where);
      if (!entry.done) refuseCritical(entry.enter(), where);
      entry.end();
    }
  }
  if (!tbs.done) {
    const tagged = tbs.enter(0xa0);
    refuseCritical(tagged.enter(), where);
    tagged.end();
  }
  tbs.end();
  return {
    issuer,
    thisUpdate,
    nextUpdate,
    revoked,
    signatureAlgorithm: decodeOid(new DerReader(algorithm.content, where).take(TAG.oid).content, where),
    signed: signed.raw,
    signature: bits.subarray(1),
  };
}

function refuseCritical(extensions: DerReader, where: string): void {
  for (const [oid, { critical }] of parseExtensions(extensions, where)) {
    if (critical) throw new UnsupportedError('crl-extension', `${where}: has the critical extension ${oid}`, { oid });
  }
}

/** Throws VerificationError unless `issuer` signed the list and `now` lies between its updates. */
export function checkCrl(crl: RevocationList, issuer: Certificate, now: number, where: string): void {
  checkNow(now);
  const maySign = issuer.keyUsage === null || issuer.keyUsage.has(KEY_USAGE.crlSign);
  if (!maySign || !equalBytes(crl.issuer, issuer.subject)) {
    throw new VerificationError('crl-issuer', `the ${where} was not issued by the CA given for it`, { where });
  }
  const key = { key: issuer.publicKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 };
  if (crl.signatureAlgorithm !== RSASSA_PSS || !verify('sha384', crl.signed, key, crl.signature)) {
    throw new VerificationError('crl-signature', `the signature of the ${where} does not verify`, { where });
  }
  if (now < crl.thisUpdate || now >= crl.nextUpdate) {
    throw new VerificationError('crl-time', `the ${where} is not current`, {
      where,
      thisUpdate: crl.thisUpdate,
      nextUpdate: crl.nextUpdate,
      now,
    });
  }
}
