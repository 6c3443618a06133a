// Endorsement certificates: which CA says that this endorsement key sits in a TPM? Zone: owner (verifier).
// TCG EK Credential Profile 2.x; RFC 5280. Pinned CAs only; a certificate of a software TPM is recognised and labelled.

import { equalBytes } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import {
  type Certificate,
  checkCritical,
  checkIssuedBy,
  checkValidity,
  parseCertificate,
} from '../x509/certificate.js';
import { DerReader, decodeOid, TAG } from '../x509/der.js';
import { type PublicArea, parseEndorsementKey } from './public-area.js';

/** A CA whose endorsement certificates are believed. */
export interface TpmRoot {
  /** DER. */
  readonly certificate: Uint8Array;
  /** This CA certifies software TPMs; those of swtpm are recognised without it. */
  readonly softwareTpm?: boolean | undefined;
}

export interface TpmEndorsement {
  /** DER. */
  readonly ekCertificate: Uint8Array;
  /** Intermediate CAs, DER, in any order. */
  readonly chain: readonly Uint8Array[];
  /** TPM2B_PUBLIC */
  readonly ekPublic: Uint8Array;
}

export interface VerifiedEndorsement {
  readonly endorsementKey: PublicArea;
  /** Subject of the pinned CA. */
  readonly endorsementCa: string;
  readonly softwareTpm: boolean;
  /** Unix seconds: the earliest end of validity in the chain. */
  readonly endorsedUntil: number;
}

const OID = {
  subjectAltName: '2.5.29.17',
  certificatePolicies: '2.5.29.32',
  extendedKeyUsage: '2.5.29.37',
  ekCertificate: '2.23.133.8.1',
  tpmModel: '2.23.133.2.2',
} as const;
const MAX_DEPTH = 5;
/** SHA-2 with RSA (also PSS) and ECDSA. */
const SIGNATURES: ReadonlySet<string> = new Set([
  '1.2.840.113549.1.1.10',
  '1.2.840.113549.1.1.11',
  '1.2.840.113549.1.1.12',
  '1.2.840.113549.1.1.13',
  '1.2.840.10045.4.3.2',
  '1.2.840.10045.4.3.3',
  '1.2.840.10045.4.3.4',
]);

/** Throws MalformedError, UnsupportedError or VerificationError; every certificate must be valid at `now` (Unix seconds). */
export function verifyTpmEndorsement(
  endorsement: TpmEndorsement,
  { now, roots }: { readonly now: number; readonly roots: readonly TpmRoot[] },
): VerifiedEndorsement {
  const where = 'TPM endorsement';
  const ek = parseCertificate(endorsement.ekCertificate, where);
  const intermediates = endorsement.chain.map((der) => parseCertificate(der, 'TPM intermediate'));
  const pinned = roots.map((root) => ({ root, ca: parseCertificate(root.certificate, 'TPM root') }));
  checkCritical(ek, [OID.subjectAltName, OID.certificatePolicies, OID.extendedKeyUsage], where);
  checkValidity(ek, now, where);
  if (ek.isCa || !purposesOf(ek).includes(OID.ekCertificate)) {
    throw new VerificationError('tpm-endorsement', 'the certificate is not for an endorsement key');
  }
  let current = ek;
  let endorsedUntil = ek.notAfter;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const { issuer } = current;
    const found = pinned.find(({ ca }) => equalBytes(ca.subject, issuer));
    const by = found?.ca ?? intermediates.find(({ subject }) => equalBytes(subject, issuer));
    if (by === undefined) break;
    checkLink(current, by, depth, now);
    endorsedUntil = Math.min(endorsedUntil, by.notAfter);
    if (found !== undefined) {
      const endorsementKey = parseEndorsementKey(endorsement.ekPublic);
      if (!equalBytes(spki(endorsementKey), spki(ek))) {
        throw new VerificationError('tpm-endorsement', 'the certificate is for another endorsement key');
      }
      const softwareTpm = found.root.softwareTpm === true || isSwtpm(ek, found.ca);
      return { endorsementKey, endorsementCa: found.ca.subjectText, softwareTpm, endorsedUntil };
    }
    current = by;
  }
  throw new VerificationError('tpm-root', 'the endorsement certificate does not chain to a pinned CA');
}

function spki({ publicKey }: Pick<PublicArea, 'publicKey'>): Uint8Array {
  return publicKey.export({ type: 'spki', format: 'der' });
}

function checkLink(certificate: Certificate, by: Certificate, depth: number, now: number): void {
  const where = depth === 0 ? 'TPM endorsement' : 'TPM intermediate';
  if (!SIGNATURES.has(certificate.signatureAlgorithm)) {
    throw new VerificationError(
      'certificate-signature',
      `the ${where} certificate is signed with a weak or unknown algorithm`,
    );
  }
  checkCritical(by, [OID.certificatePolicies], 'TPM CA');
  checkIssuedBy(certificate, by, where);
  checkValidity(by, now, 'TPM CA');
  if (by.pathLength !== null && by.pathLength < depth) {
    throw new VerificationError('certificate-issuer', 'a TPM CA issued a longer chain than it may');
  }
}

function purposesOf(certificate: Certificate): string[] {
  const extension = certificate.extensions.get(OID.extendedKeyUsage);
  if (extension === undefined) return [];
  const outer = new DerReader(extension.value, 'TPM endorsement');
  const list = outer.enter();
  outer.end();
  const purposes: string[] = [];
  while (!list.done) purposes.push(decodeOid(list.take(TAG.oid).content, 'TPM endorsement'));
  return purposes;
}

/** swtpm writes its name as the TPM's model, and its local CA is called swtpm-localca. */
function isSwtpm(ek: Certificate, ca: Certificate): boolean {
  return modelOf(ek) === 'swtpm' || (ca.commonName?.startsWith('swtpm') ?? false);
}

/** The attribute tcg-at-tpmModel of the directory name in the subject alternative name. */
function modelOf(ek: Certificate): string | null {
  const extension = ek.extensions.get(OID.subjectAltName);
  if (extension === undefined) return null;
  const names = new DerReader(extension.value, 'TPM endorsement').enter();
  while (!names.done) {
    const name = names.take();
    if (name.tag !== 0xa4) continue;
    const sets = new DerReader(name.content, 'TPM endorsement').enter();
    while (!sets.done) {
      const set = sets.enter(0x31);
      while (!set.done) {
        const attribute = set.enter();
        const oid = decodeOid(attribute.take(TAG.oid).content, 'TPM endorsement');
        const value = attribute.take().content;
        if (oid === OID.tpmModel) return new TextDecoder().decode(value);
      }
    }
  }
  return null;
}
