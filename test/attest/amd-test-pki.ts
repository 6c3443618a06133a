// A small PKI like AMD's and reports signed under it: Genoa, Turin, VLEK and revocation have no public vectors.
import { createHash, generateKeyPairSync, type KeyPairKeyObjectResult, sign } from 'node:crypto';
import type { SnpRoots } from '../../src/attest/snp/amd-roots.js';
import type { SnpEndorsement } from '../../src/attest/snp/endorsement.js';
import { type SnpProduct, tcbExtensions } from '../../src/attest/snp/tcb.js';
import { CA_EXTENSIONS, der, extension, integer, writeCertificate, writeCrl } from './x509-writer.js';

const AMD = '1.3.6.1.4.1.3704.1';
/** A time inside the default validity. */
export const NOW = 1_748_736_000;
const VALID = { notBefore: NOW - 1000, notAfter: NOW + 1000 };
export const SERIAL = { ark: 10, ask: 11, asvk: 12 } as const;

type Pair = KeyPairKeyObjectResult;

export interface TestChain {
  readonly product: SnpProduct;
  readonly roots: SnpRoots;
  readonly rootKeys: Pair;
  readonly askKeys: Pair;
  readonly asvkKeys: Pair;
  readonly ask: Uint8Array;
  readonly ark: Uint8Array;
  readonly asvk: Uint8Array;
}

export function makeChain(product: SnpProduct): TestChain {
  const keys = (): Pair => generateKeyPairSync('rsa', { modulusLength: 2048 });
  const [rootKeys, askKeys, asvkKeys] = [keys(), keys(), keys()];
  const ca = (serial: number, subject: string, { publicKey }: Pair): Uint8Array => {
    const fields = { serial, subject, issuer: `ARK-${product}`, ...VALID, publicKey, extensions: CA_EXTENSIONS };
    return writeCertificate(fields, 'pss', rootKeys.privateKey);
  };
  const spki = rootKeys.publicKey.export({ type: 'spki', format: 'der' });
  const none = '0'.repeat(64);
  return {
    product,
    roots: { Milan: none, Genoa: none, Turin: none, [product]: createHash('sha256').update(spki).digest('hex') },
    rootKeys,
    askKeys,
    asvkKeys,
    ark: ca(SERIAL.ark, `ARK-${product}`, rootKeys),
    ask: ca(SERIAL.ask, `SEV-${product}`, askKeys),
    asvk: ca(SERIAL.asvk, `SEV-VLEK-${product}`, asvkKeys),
  };
}

export interface LeafOptions {
  readonly kind?: 'VCEK' | 'VLEK';
  readonly commonName?: string;
  readonly productName?: string;
  /** TCB_VERSION, 8 bytes. */
  readonly tcb?: Uint8Array;
  /** Raw value of the hwID extension; null leaves it out. */
  readonly hwId?: Uint8Array | null;
  readonly notAfter?: number;
  readonly extensions?: readonly Uint8Array[];
  readonly signedBy?: Pair;
  readonly curve?: string;
}

export interface TestLeaf {
  readonly der: Uint8Array;
  readonly keys: Pair;
  readonly endorsement: SnpEndorsement;
}

export const TCB: Uint8Array = Uint8Array.of(3, 1, 2, 200, 0, 0, 23, 84);
export const CHIP: Uint8Array = Uint8Array.from({ length: 64 }, (_, i) => i + 1);

/** Chip id as the report of that product states it. */
export function chipIdOf(product: SnpProduct): Uint8Array {
  return product === 'Turin' ? Uint8Array.from(CHIP, (byte, i) => (i < 8 ? byte : 0)) : CHIP;
}

export function makeLeaf(chain: TestChain, options: LeafOptions = {}): TestLeaf {
  const { product } = chain;
  const { kind = 'VCEK', tcb = tcbOf(product), curve = 'P-384', notAfter = VALID.notAfter } = options;
  const { productName = kind === 'VLEK' ? product : `${product}-B1`, commonName = `SEV-${kind}` } = options;
  const { hwId = kind === 'VLEK' ? null : CHIP.subarray(0, product === 'Turin' ? 8 : 64) } = options;
  const keys = generateKeyPairSync('ec', { namedCurve: curve });
  const extensions = [
    extension(`${AMD}.1`, integer(0)),
    extension(`${AMD}.2`, der(0x16, Buffer.from(productName, 'latin1'))),
    ...tcbExtensions(product).map((arc, i) => extension(`${AMD}.3.${arc}`, integer(tcb[i]!))),
    ...(hwId === null ? [] : [extension(`${AMD}.4`, hwId)]),
    ...(options.extensions ?? []),
  ];
  const issuer = kind === 'VCEK' ? `SEV-${product}` : `SEV-VLEK-${product}`;
  const { publicKey } = keys;
  const fields = { serial: 0, subject: commonName, issuer, ...VALID, notAfter, publicKey, extensions };
  const signer = options.signedBy ?? (kind === 'VCEK' ? chain.askKeys : chain.asvkKeys);
  const leaf = writeCertificate(fields, 'pss', signer.privateKey);
  return { der: leaf, keys, endorsement: { leaf, chain: [chain.ask, chain.ark, chain.asvk] } };
}

export function tcbOf(product: SnpProduct): Uint8Array {
  return product === 'Turin' ? Uint8Array.of(1, 3, 1, 23, 0, 0, 0, 84) : Uint8Array.of(3, 1, 0, 0, 0, 0, 23, 200);
}

export interface ReportOptions {
  readonly version?: number;
  readonly cpuid?: readonly [number, number, number];
  readonly product?: SnpProduct;
  readonly signingKey?: number;
  readonly flags?: number;
  readonly tcb?: Uint8Array;
  readonly chipId?: Uint8Array;
  readonly vmpl?: number;
  /** Changed before signing. */
  readonly edit?: (report: Buffer) => void;
}

const CPUID: Record<SnpProduct, readonly [number, number, number]> = {
  Milan: [0x19, 1, 1],
  Genoa: [0x19, 0x11, 1],
  Turin: [0x1a, 2, 1],
};

/** A report laid out as the firmware ABI says, signed with `keys`. */
export function makeReport(product: SnpProduct, keys: Pair, options: ReportOptions = {}): Uint8Array {
  const report = Buffer.alloc(1184);
  const { version = 5, cpuid = CPUID[product], signingKey = 0, flags = signingKey << 2 } = options;
  report.writeUInt32LE(version, 0);
  report.writeUInt32LE(7, 4);
  report.writeUInt32LE(0x30000 | (1 << 8) | 55, 8);
  report.writeUInt32LE(options.vmpl ?? 0, 0x30);
  report.writeUInt32LE(1, 0x34);
  report.writeUInt32LE(flags, 0x48);
  for (let i = 0; i < 64; i++) report[0x50 + i] = 0x80 + i;
  report.fill(0xaa, 0x90, 0xc0);
  report.fill(0xbb, 0xc0, 0xe0);
  report.set(options.tcb ?? tcbOf(product), 0x180);
  if (version >= 3) report.set(cpuid, 0x188);
  report.set(options.chipId ?? chipIdOf(product), 0x1a0);
  if (version >= 5) report.writeUInt32LE(3, 0x1f8);
  options.edit?.(report);
  const key = { key: keys.privateKey, dsaEncoding: 'ieee-p1363' } as const;
  const signature = sign('sha384', report.subarray(0, 0x2a0), key);
  const size = signature.length / 2;
  report.set(Buffer.from(signature.subarray(0, size)).reverse(), 0x2a0);
  report.set(Buffer.from(signature.subarray(size)).reverse(), 0x2e8);
  return new Uint8Array(report);
}

export interface CrlOptions {
  readonly signedBy?: Pair;
  readonly nextUpdate?: number;
  readonly issuer?: string;
  readonly extensions?: readonly Uint8Array[];
}

/** AMD's revocation list with these serial numbers. */
export function makeCrl(chain: TestChain, serials: readonly number[], options: CrlOptions = {}): Uint8Array {
  const { issuer = `ARK-${chain.product}`, nextUpdate = VALID.notAfter, extensions = [] } = options;
  const fields = { issuer, thisUpdate: VALID.notBefore, nextUpdate, serials, ...(extensions.length && { extensions }) };
  return writeCrl(fields, (options.signedBy ?? chain.rootKeys).privateKey);
}

const GUIDS = {
  vcek: '63da758de6644564adc5f4b93be8accd',
  vlek: 'a8074bc2a25a483eaae639c045a0b8a1',
  ask: '4ab7b379bbac4fe4a02f05aef327c782',
  ark: 'c0b406a4a803495297433fb6014cd0ae',
  other: '00112233445566778899aabbccddeeff',
} as const;

/** The kernel's certificate table, padded to pages as hosts hand it over. */
export function makeTable(entries: readonly (readonly [keyof typeof GUIDS, Uint8Array])[]): Uint8Array {
  const header = 24 * (entries.length + 1);
  const size = header + entries.reduce((sum, [, bytes]) => sum + bytes.length, 0);
  const table = Buffer.alloc(4096 * Math.ceil(size / 4096));
  let offset = header;
  for (const [i, [name, bytes]] of entries.entries()) {
    table.set(Buffer.from(GUIDS[name], 'hex'), 24 * i);
    table.writeUInt32LE(offset, 24 * i + 16);
    table.writeUInt32LE(bytes.length, 24 * i + 20);
    table.set(bytes, offset);
    offset += bytes.length;
  }
  return new Uint8Array(table);
}
