// Writes X.509 certificates and revocation lists for test PKIs, in DER and on node:crypto alone. RFC 5280.
import { constants, type KeyObject, sign } from 'node:crypto';

export const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts);
  const size = content.length;
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
};
export const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
export const integer = (value: number): Buffer => der(2, Buffer.from(value < 0x80 ? [value] : [0, value]));
export const bitString = (bytes: Uint8Array): Buffer => der(3, Buffer.of(0), bytes);

export function oid(text: string): Buffer {
  const [first, second, ...rest] = text.split('.').map(Number);
  const bytes = [40 * first! + second!];
  for (const arc of rest) {
    const digits = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) digits.unshift((left & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return der(6, Buffer.from(bytes));
}

const name = (commonName: string): Buffer =>
  sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(commonName)))));
const time = (seconds: number): Buffer =>
  der(0x18, Buffer.from(new Date(seconds * 1000).toISOString().replaceAll(/[-:T]|\.\d+/g, '')));

export function extension(id: string, value: Uint8Array, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [der(1, Buffer.of(0xff))] : []), der(4, value));
}
/** basicConstraints and keyUsage (certificate and CRL signing) of a CA. */
export const CA_EXTENSIONS: readonly Buffer[] = [
  extension('2.5.29.19', sequence(der(1, Buffer.of(0xff))), true),
  extension('2.5.29.15', der(3, Buffer.of(1, 0x06)), true),
];

const sha384 = sequence(oid('2.16.840.1.101.3.4.2.2'), der(5));
const ALGORITHMS: Record<Algorithm, Buffer> = {
  pss: sequence(
    oid('1.2.840.113549.1.1.10'),
    sequence(der(0xa0, sha384), der(0xa1, sequence(oid('1.2.840.113549.1.1.8'), sha384)), der(0xa2, integer(48))),
  ),
  rsa: sequence(oid('1.2.840.113549.1.1.11'), der(5)),
  ecdsa: sequence(oid('1.2.840.10045.4.3.2')),
};
export type Algorithm = 'pss' | 'rsa' | 'ecdsa';

function signed(body: Buffer, algorithm: Algorithm, key: KeyObject): Buffer {
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 };
  const signature = algorithm === 'pss' ? sign('sha384', body, { key, ...pss }) : sign('sha256', body, key);
  return sequence(body, ALGORITHMS[algorithm], bitString(signature));
}

export interface CertificateFields {
  readonly serial: number;
  readonly subject: string;
  readonly issuer: string;
  /** Unix seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** A key, or its subject public key info. */
  readonly publicKey: KeyObject | Uint8Array;
  readonly extensions: readonly Uint8Array[];
}

export function writeCertificate(fields: CertificateFields, algorithm: Algorithm, signingKey: KeyObject): Buffer {
  const body = sequence(
    der(0xa0, integer(2)),
    integer(fields.serial),
    ALGORITHMS[algorithm],
    name(fields.issuer),
    sequence(time(fields.notBefore), time(fields.notAfter)),
    name(fields.subject),
    'export' in fields.publicKey ? fields.publicKey.export({ type: 'spki', format: 'der' }) : fields.publicKey,
    der(0xa3, sequence(...fields.extensions)),
  );
  return signed(body, algorithm, signingKey);
}

export interface CrlFields {
  readonly issuer: string;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly serials: readonly number[];
  readonly extensions?: readonly Uint8Array[];
}

export function writeCrl(fields: CrlFields, signingKey: KeyObject): Buffer {
  const entries = fields.serials.map((serial) => sequence(integer(serial), time(fields.thisUpdate)));
  const body = sequence(
    integer(1),
    ALGORITHMS.pss,
    name(fields.issuer),
    time(fields.thisUpdate),
    time(fields.nextUpdate),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    ...(fields.extensions ? [der(0xa0, sequence(...fields.extensions))] : []),
  );
  return signed(body, 'pss', signingKey);
}
