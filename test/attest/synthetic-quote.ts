// Quotes signed by the test's own platform: header, body, quoting enclave and chain laid out by the test itself, so the parser's
// idea of the layout is checked against another one.
import { createHash } from 'node:crypto';
import type { DcapCollateral } from '../../src/attest/dcap/collateral.js';
import { collateralOf, QE_SIGNER } from './intel-collateral.js';
import { type Certificates, certificates, type PlatformOptions, pemChain, pointOf, sign, zeros } from './intel-pki.js';

export interface Platform {
  readonly quote: Uint8Array;
  readonly collateral: DcapCollateral;
  /** Hex of the root's x‖y. */
  readonly root: string;
}

const u16 = (value: number): number[] => [value & 255, value >> 8];
const u32 = (value: number): number[] => [...u16(value & 0xffff), ...u16(value >>> 16)];
const join = (...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array =>
  Uint8Array.from(Buffer.concat(parts.map((part) => Uint8Array.from(part))));

interface EnclaveFields {
  readonly miscSelect?: number;
  readonly attributes: number;
  readonly mrsigner: number;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reportData: Uint8Array;
}

function enclaveReport(fields: EnclaveFields): Uint8Array {
  return join(
    zeros(16),
    u32(fields.miscSelect ?? 0),
    zeros(28),
    [fields.attributes, ...zeros(7), 0xe7, ...zeros(7)],
    new Array<number>(32).fill(0xaa),
    zeros(32),
    new Array<number>(32).fill(fields.mrsigner),
    zeros(96),
    u16(fields.isvProdId),
    u16(fields.isvSvn),
    zeros(60),
    fields.reportData,
  );
}

function tdReport(options: PlatformOptions, reportData: Uint8Array): Uint8Array {
  const measurements = [0xb0, 0xc0, 0xc1, 0xc2, 0xd0, 0xd1, 0xd2, 0xd3].map((byte) => new Array<number>(48).fill(byte));
  const running = options.kind === 'td15' ? [...(options.tcbSvn2 ?? zeros(16)), ...zeros(48)] : [];
  return join(
    options.tcbSvn ?? [5, 1, ...zeros(14)],
    zeros(48),
    new Array<number>(48).fill(options.seam?.mrsigner ?? 0),
    [options.seam?.attributes ?? 0, ...zeros(7)],
    [options.attributes ?? 0, 0, 0, 0x10, ...zeros(4)],
    [0xe7, 2, 6, ...zeros(5)],
    ...measurements,
    reportData,
    running,
  );
}

async function quoteOf(made: Certificates, options: PlatformOptions): Promise<Uint8Array> {
  const kind = options.kind ?? 'sgx';
  const version = kind === 'sgx' ? 3 : kind === 'td10' ? 4 : 5;
  const reportData = options.reportData ?? Uint8Array.from({ length: 64 }, (_, i) => i);
  const header = [
    ...u16(version),
    ...u16(2),
    ...u32(kind === 'sgx' ? 0 : 0x81),
    ...zeros(4),
    ...Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex'),
    ...zeros(20),
  ];
  const enclave = { attributes: options.attributes ?? 5, mrsigner: 0xbb, isvProdId: 3, isvSvn: 4, reportData };
  const body = kind === 'sgx' ? enclaveReport(enclave) : tdReport(options, reportData);
  const typed = kind === 'td15' ? [...u16(options.bodyType ?? 3), ...u32(body.length)] : [];
  const signed = join(header, typed, body);
  for (const [at, value] of options.signedBytes ?? []) signed[at] = value;

  const attestationKey = await pointOf('attestation');
  const authData = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
  const binding = createHash('sha256').update(join(attestationKey, authData)).digest();
  const qeReport = enclaveReport({
    attributes: 0x15,
    mrsigner: QE_SIGNER,
    isvProdId: 1,
    isvSvn: 8,
    ...options.qe,
    reportData: options.qeReportData ?? join(binding, zeros(32)),
  });
  const chain = Buffer.from(pemChain(made.leaf, made.authority, made.root));
  const qe = join(
    qeReport,
    await sign('leaf', qeReport),
    u16(authData.length),
    authData,
    u16(options.certificationType ?? 5),
    u32(chain.length),
    chain,
  );
  const wrapped = version === 3 ? qe : join(u16(6), u32(qe.length), qe);
  const section = join(await sign('attestation', signed), attestationKey, wrapped);
  return join(signed, u32(section.length), section);
}

export async function makePlatform(options: PlatformOptions = {}): Promise<Platform> {
  const made = await certificates(options);
  return {
    quote: await quoteOf(made, options),
    collateral: await collateralOf(made, options),
    root: Buffer.from(await pointOf('root')).toString('hex'),
  };
}
