// Certificate revocation lists, version 2, complete ones only. Zone: owner (verifier). RFC 5280 section 5.
// A list counts only when its issuer's key signed it, its name is that issuer's and `now` lies in its window:
// anything less and an old or foreign list would hide a revocation.
import { encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import { type Certificate, ECDSA_SHA256, readExtensions } from './certificates.js';
import { DerReader, malformedDer, TAG } from './der.js';
import { verifyP256 } from './p256.js';

const DELTA_INDICATOR = '551d1b';

export interface RevocationList {
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
  /** Whole DER name. */
  readonly issuer: Uint8Array;
  /** Unix seconds, both inclusive. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Hex of the INTEGERs' contents, as in `Certificate.serial`. */
  readonly revoked: ReadonlySet<string>;
}

/** Throws MalformedError unless `bytes` are exactly one complete list with a next update. */
export function parseCrl(bytes: Uint8Array): RevocationList {
  const whole = new DerReader(bytes);
  const outer = whole.into();
  whole.end();
  const signed = outer.next(TAG.sequence);
  const outerAlgorithm = encodeHex(outer.next(TAG.sequence).raw);
  const signature = outer.bits(0);
  outer.end();

  const fields = new DerReader(signed.content);
  if (fields.integer(1) !== 1) malformedDer('a revocation list that is not of version 2');
  const algorithm = encodeHex(fields.next(TAG.sequence).raw);
  if (algorithm !== ECDSA_SHA256 || outerAlgorithm !== ECDSA_SHA256) {
    malformedDer('a revocation list that is not signed with ECDSA and SHA-256');
  }
  const issuer = fields.next(TAG.sequence).raw;
  const thisUpdate = fields.time();
  const nextUpdate = fields.time();
  const revoked = new Set<string>();
  if (fields.follows(TAG.sequence)) {
    const entries = fields.into();
    while (!entries.done) {
      const entry = entries.into();
      revoked.add(entry.serial());
      entry.time();
      // An entry for another issuer's certificate would carry a critical extension, which is refused.
      if (!entry.done) readExtensions(entry.into(), []);
      entry.end();
    }
  }
  const tagged = fields.into(TAG.context0);
  const extensions = readExtensions(tagged.into(), []);
  tagged.end();
  fields.end();
  if (extensions.has(DELTA_INDICATOR)) malformedDer('a delta list: it names only changes');
  return { signed: signed.raw, signature, issuer, thisUpdate, nextUpdate, revoked };
}

/** Throws VerificationError unless `authority` issued the list and `now` lies in its window. `where` names the list. */
export function verifyCrl(list: RevocationList, authority: Certificate, now: number, where: string): void {
  if (!equalBytes(list.issuer, authority.subject)) {
    throw new VerificationError('crl-issuer', `${where}: the list is another authority's`, { where });
  }
  if (!authority.keyUsage.crlSign || !verifyP256(authority.point, list.signed, list.signature, 'der')) {
    throw new VerificationError('crl-signature', `${where}: ${authority.commonName} did not sign the list`, { where });
  }
  if (now < list.thisUpdate || now > list.nextUpdate) {
    throw new VerificationError('crl-window', `${where}: the list is not valid at the time given; fetch a new one`, {
      where,
      thisUpdate: list.thisUpdate,
      nextUpdate: list.nextUpdate,
    });
  }
}

/** Throws VerificationError when the list names the certificate. */
export function refuseRevoked(certificate: Certificate, list: RevocationList): void {
  if (!equalBytes(certificate.issuer, list.issuer)) {
    throw new VerificationError('crl-issuer', `the list does not speak for ${certificate.commonName}`);
  }
  if (list.revoked.has(certificate.serial)) {
    throw new VerificationError('certificate-revoked', `${certificate.commonName} has been revoked`, {
      serial: certificate.serial,
    });
  }
}
