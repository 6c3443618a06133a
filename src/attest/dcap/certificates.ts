// X.509 certificates as Intel issues them for attestation: P-256, SHA-256, version 3. Zone: owner (verifier). RFC 5280.
// One strict reader, our own, for everything a decision depends on (names, serials, windows, extensions, key), so two parsers
// can never disagree; node:crypto only verifies the signature over the exact signed bytes.
import { decodeUtf8, encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { DerReader, malformedDer, TAG } from './der.js';
import { SPKI_PREFIX } from './p256.js';

export const MAX_CHAIN_TEXT: number = 32 * 1024;
/** ecdsa-with-SHA256 without parameters, whole AlgorithmIdentifier, hex. */
export const ECDSA_SHA256 = '300a06082a8648ce3d040302';
const COMMON_NAME = '550403';
const BASIC_CONSTRAINTS = '551d13';
const KEY_USAGE = '551d0f';

export interface Certificate {
  readonly raw: Uint8Array;
  /** The bytes that the issuer signed. */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
  /** Hex of the INTEGER's content. */
  readonly serial: string;
  /** Whole DER names: compared byte by byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly commonName: string;
  /** Unix seconds, both inclusive. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** x‖y, 64 bytes. */
  readonly point: Uint8Array;
  readonly authority: boolean;
  /** How many authorities may stand below an authority; null for no limit. */
  readonly pathLength: number | null;
  readonly keyUsage: { readonly digitalSignature: boolean; readonly certSign: boolean; readonly crlSign: boolean };
  /** Extension id (hex) → content. */
  readonly extensions: ReadonlyMap<string, Uint8Array>;
}

/** The one commonName of a distinguished name. */
function commonNameOf(name: Uint8Array): string {
  const names: string[] = [];
  const sets = new DerReader(name).into();
  while (!sets.done) {
    const set = sets.into(TAG.set);
    const attribute = set.into();
    set.end();
    const id = attribute.objectId();
    const { tag, content } = attribute.any();
    attribute.end();
    if (id !== COMMON_NAME) continue;
    if (tag !== TAG.utf8String && tag !== TAG.printableString) malformedDer('a name that is not UTF-8 or printable');
    names.push(decodeUtf8(content));
  }
  if (names.length !== 1) malformedDer(`${names.length} common names, expected one`);
  return names[0]!;
}

/** Extension id (hex) → content. Refuses a critical extension that is not in `understood`, and an id that comes twice. */
export function readExtensions(extensions: DerReader, understood: readonly string[]): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  while (!extensions.done) {
    const extension = extensions.into();
    const id = extension.objectId();
    const marked = extension.follows(TAG.boolean);
    if (marked && !extension.boolean()) malformedDer('a default value that is spelled out');
    if (marked && !understood.includes(id)) malformedDer(`a critical extension that is not understood (${id})`);
    if (found.has(id)) malformedDer(`an extension that comes twice (${id})`);
    found.set(id, extension.octets());
    extension.end();
  }
  if (found.size === 0) malformedDer('an empty list of extensions');
  return found;
}

function readBasicConstraints(content: Uint8Array | undefined): Pick<Certificate, 'authority' | 'pathLength'> {
  if (content === undefined) return { authority: false, pathLength: null };
  const whole = new DerReader(content);
  const fields = whole.into();
  whole.end();
  const authority = fields.follows(TAG.boolean) && fields.boolean();
  const pathLength = fields.follows(TAG.integer) ? fields.integer(16) : null;
  fields.end();
  return { authority, pathLength };
}

function readKeyUsage(content: Uint8Array | undefined): Certificate['keyUsage'] {
  if (content === undefined) return { digitalSignature: false, certSign: false, crlSign: false };
  const whole = new DerReader(content);
  const first = whole.bits(7)[0] ?? 0;
  whole.end();
  return { digitalSignature: (first & 0x80) !== 0, certSign: (first & 0x04) !== 0, crlSign: (first & 0x02) !== 0 };
}

/** Throws MalformedError unless `raw` is exactly one certificate of the kind above. */
export function parseCertificate(raw: Uint8Array): Certificate {
  const whole = new DerReader(raw);
  const outer = whole.into();
  whole.end();
  const signed = outer.next(TAG.sequence);
  const outerAlgorithm = encodeHex(outer.next(TAG.sequence).raw);
  const signature = outer.bits(0);
  outer.end();

  const fields = new DerReader(signed.content);
  const version = fields.into(TAG.context0);
  if (version.integer(2) !== 2) malformedDer('a certificate that is not of version 3');
  version.end();
  const serial = fields.serial();
  const algorithm = encodeHex(fields.next(TAG.sequence).raw);
  if (algorithm !== ECDSA_SHA256 || outerAlgorithm !== ECDSA_SHA256) {
    malformedDer('a certificate that is not signed with ECDSA and SHA-256');
  }
  const issuer = fields.next(TAG.sequence).raw;
  const validity = fields.into();
  const notBefore = validity.time();
  const notAfter = validity.time();
  validity.end();
  const subject = fields.next(TAG.sequence).raw;
  const key = fields.next(TAG.sequence).raw;
  if (key.length !== SPKI_PREFIX.length + 64 || !equalBytes(key.subarray(0, SPKI_PREFIX.length), SPKI_PREFIX)) {
    malformedDer('a public key that is not an uncompressed point of P-256');
  }
  const tagged = fields.into(TAG.context3);
  const extensions = readExtensions(tagged.into(), [BASIC_CONSTRAINTS, KEY_USAGE]);
  tagged.end();
  fields.end();
  return {
    raw,
    signed: signed.raw,
    signature,
    serial,
    issuer,
    subject,
    commonName: commonNameOf(subject),
    notBefore,
    notAfter,
    point: key.subarray(SPKI_PREFIX.length),
    ...readBasicConstraints(extensions.get(BASIC_CONSTRAINTS)),
    keyUsage: readKeyUsage(extensions.get(KEY_USAGE)),
    extensions,
  };
}

function encodePem(certificates: readonly Uint8Array[]): string {
  return certificates
    .map((der) => {
      const lines =
        Buffer.from(der)
          .toString('base64')
          .match(/.{1,64}/g) ?? [];
      return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
    })
    .join('');
}

/**
 * Certificates of a PEM text, leaf first. The text must be the one encoding of what it holds: lines of 64 characters, each ended
 * by `\n`. Throws MalformedError; `where` names the chain in the message.
 */
export function parsePemChain(text: string, count: number, where: string): Certificate[] {
  const fail = (what: string): never => {
    throw new MalformedError('certificate-chain', `${where}: ${what}`, { where });
  };
  if (text.length > MAX_CHAIN_TEXT) fail(`longer than ${MAX_CHAIN_TEXT} characters`);
  const ders = Array.from(text.matchAll(/-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----/g), ([, body]) =>
    Uint8Array.from(Buffer.from(body!, 'base64')),
  );
  const canonical = encodePem(ders);
  if (text !== canonical) fail('not a plain PEM chain with lines of 64 characters');
  if (ders.length !== count) fail(`${ders.length} certificates, expected ${count}`);
  return ders.map(parseCertificate);
}
