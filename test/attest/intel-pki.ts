// A small copy of Intel's attestation PKI with keys of its own; intel-collateral.ts and synthetic-quote.ts sign with them.
// Real vectors of revoked chains or of most TCB states do not exist; the verifier takes this root as a parameter.
// Certificates and lists are @peculiar/x509's, so the strict reader meets a writer that it does not share code with.
import './reflect-metadata.js';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** From here only: it must load after the import above it. */
export { x509 };

type KeyPair = webcrypto.CryptoKeyPair;
export type CertificateName = 'root' | 'authority' | 'leaf' | 'signing';

const P256 = { name: 'ECDSA', namedCurve: 'P-256' };
export const SIGN = { name: 'ECDSA', hash: 'SHA-256' };
x509.cryptoProvider.set(webcrypto);

export const NOW: number = Date.parse('2026-06-15T00:00:00Z') / 1000;
export const DAY = 86_400;

export const date = (seconds: number): Date => new Date(seconds * 1000);
export const zeros = (count: number): number[] => new Array<number>(count).fill(0);

function der(tag: number, ...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const content = Buffer.concat(parts.map((part) => Uint8Array.from(part)));
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Uint8Array.from([tag, ...size, ...content]);
}

export const SGX_EXTENSION = '1.2.840.113741.1.13.1';
const field = (numbers: readonly number[], value: Uint8Array): Uint8Array =>
  der(0x30, der(0x06, Buffer.from('2a864886f84d010d01', 'hex'), numbers), value);
const unsigned = (value: number): Uint8Array => {
  const bytes = value < 256 ? [value] : [value >> 8, value & 255];
  return der(0x02, bytes[0]! >= 0x80 ? [0, ...bytes] : bytes);
};

/** The content of the SGX extension of a PCK certificate. */
export function pckExtension(pck: {
  components: readonly number[];
  pceSvn: number;
  pceId: string;
  fmspc: string;
}): Uint8Array {
  const tcb = [
    ...pck.components.map((svn, i) => field([2, i + 1], unsigned(svn))),
    field([2, 17], unsigned(pck.pceSvn)),
    field([2, 18], der(0x04, zeros(16))),
  ];
  return der(
    0x30,
    field([1], der(0x04, zeros(16))),
    field([2], der(0x30, ...tcb)),
    field([3], der(0x04, Buffer.from(pck.pceId, 'hex'))),
    field([4], der(0x04, Buffer.from(pck.fmspc, 'hex'))),
    field([5], der(0x0a, [0])),
  );
}

export interface Level {
  readonly sgx?: readonly number[];
  readonly tdx?: readonly number[];
  readonly pceSvn?: number;
  readonly status: string;
  readonly advisories?: readonly string[];
}

export interface EnclaveLevel {
  readonly isvSvn: number;
  readonly status: string;
  readonly advisories?: readonly string[];
}

/** What to make otherwise than Intel would; everything has a value that verifies. */
export interface PlatformOptions {
  readonly kind?: 'sgx' | 'td10' | 'td15';
  readonly names?: Partial<Record<CertificateName, string>>;
  /** Certificates that are not valid any more. */
  readonly expired?: readonly CertificateName[];
  /** Certificates marked the other way round as an authority. */
  readonly swapped?: readonly CertificateName[];
  readonly revoked?: readonly CertificateName[];
  /** Hex serial numbers in place of the usual ones. */
  readonly serials?: Partial<Record<CertificateName, string>>;
  /** The PCK list is signed by another key under the authority's name. */
  readonly forgedCrl?: boolean;
  readonly crlName?: string;
  /** Seconds around NOW. */
  readonly crlWindow?: readonly [number, number];
  readonly rootCrlWindow?: readonly [number, number];
  readonly tcbWindow?: readonly [number, number];
  readonly qeWindow?: readonly [number, number];
  readonly pck?: {
    readonly components?: readonly number[];
    readonly pceSvn?: number;
    readonly pceId?: string;
    readonly fmspc?: string;
  };
  readonly extension?: Uint8Array | null;
  readonly levels?: readonly Level[];
  readonly moduleLevels?: readonly EnclaveLevel[];
  readonly qeLevels?: readonly EnclaveLevel[];
  readonly qe?: {
    readonly mrsigner?: number;
    readonly attributes?: number;
    readonly isvProdId?: number;
    readonly isvSvn?: number;
    readonly miscSelect?: number;
  };
  readonly tcbSvn?: readonly number[];
  readonly tcbSvn2?: readonly number[];
  readonly seam?: { readonly mrsigner?: number; readonly attributes?: number };
  readonly attributes?: number;
  /** Changes of the signed records before they are signed. */
  readonly tcbInfo?: Readonly<Record<string, unknown>>;
  readonly qeIdentity?: Readonly<Record<string, unknown>>;
  /** 64 bytes that the quote is over. */
  readonly reportData?: Uint8Array;
  readonly qeReportData?: Uint8Array;
  readonly bodyType?: number;
  readonly certificationType?: number;
  /** Bytes of header and body, as [offset, value], changed before they are signed. */
  readonly signedBytes?: readonly (readonly [number, number])[];
}

const keys = new Map<string, Promise<KeyPair>>();
export function keyOf(name: string): Promise<KeyPair> {
  const known = keys.get(name) ?? webcrypto.subtle.generateKey(P256, true, ['sign', 'verify']);
  keys.set(name, known);
  return known;
}

export async function pointOf(name: string): Promise<Uint8Array> {
  const { publicKey } = await keyOf(name);
  return new Uint8Array(await webcrypto.subtle.exportKey('raw', publicKey)).slice(1);
}

/** r‖s. */
export async function sign(name: string, data: Uint8Array): Promise<Uint8Array> {
  const { privateKey } = await keyOf(name);
  return new Uint8Array(await webcrypto.subtle.sign(SIGN, privateKey, data));
}

const COMMON_NAMES: Record<CertificateName, string> = {
  root: 'Intel SGX Root CA',
  authority: 'Intel SGX PCK Platform CA',
  leaf: 'Intel SGX PCK Certificate',
  signing: 'Intel SGX TCB Signing',
};
export const SERIALS: Record<CertificateName, string> = { root: '01', authority: '02', leaf: '81b777', signing: '7f' };

export type Certificates = Record<CertificateName, x509.X509Certificate>;

export async function certificates(options: PlatformOptions): Promise<Certificates> {
  const nameOf = (name: CertificateName): string => `CN=${options.names?.[name] ?? COMMON_NAMES[name]}, O=Test, C=US`;
  const make = async (
    name: CertificateName,
    issuer: CertificateName,
    pathLength: number | undefined,
    extensions: x509.Extension[] = [],
  ): Promise<x509.X509Certificate> => {
    const authority = (name === 'root' || name === 'authority') !== (options.swapped?.includes(name) ?? false);
    const usage = authority
      ? x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign
      : x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.nonRepudiation;
    return x509.X509CertificateGenerator.create({
      serialNumber: options.serials?.[name] ?? SERIALS[name],
      subject: nameOf(name),
      issuer: nameOf(issuer),
      notBefore: date(NOW - 400 * DAY),
      notAfter: date(options.expired?.includes(name) ? NOW - 1 : NOW + 4000 * DAY),
      publicKey: (await keyOf(name)).publicKey,
      signingKey: (await keyOf(issuer)).privateKey,
      signingAlgorithm: SIGN,
      extensions: [
        new x509.BasicConstraintsExtension(authority, authority ? pathLength : undefined, true),
        new x509.KeyUsagesExtension(usage, true),
        ...extensions,
      ],
    });
  };
  const pck = {
    components: new Array<number>(16).fill(5),
    pceSvn: 11,
    pceId: '0000',
    fmspc: '00906ed50000',
    ...options.pck,
  };
  const extension = options.extension === undefined ? pckExtension(pck) : options.extension;
  return {
    root: await make('root', 'root', 1),
    authority: await make('authority', 'root', 0),
    leaf: await make(
      'leaf',
      'authority',
      undefined,
      extension === null ? [] : [new x509.Extension(SGX_EXTENSION, false, Uint8Array.from(extension))],
    ),
    signing: await make('signing', 'root', undefined),
  };
}

/** Certificates as a chain, leaf first. */
export function pemChain(...chain: readonly x509.X509Certificate[]): string {
  return chain.map((certificate) => `${certificate.toString('pem')}\n`).join('');
}
