// The public vectors of SGX and TDX, and edits of their bytes by field. Data and licences: test/fixtures/attestation/README.md.
import { readFileSync } from 'node:fs';
import type { DcapCollateral } from '../../src/attest/dcap/collateral.js';
import { parseDcapQuote } from '../../src/attest/dcap/quote.js';
import { verifyDcapQuote } from '../../src/attest/dcap/verify-dcap.js';
import type { SgxFacts, TdxFacts } from '../../src/attest/verified.js';

const FOLDER = 'test/fixtures/attestation';

export interface DcapCase {
  readonly id: string;
  readonly kind: 'sgx' | 'tdx';
  readonly now: number;
  readonly status?: string;
  readonly advisories?: readonly string[];
  readonly debug: boolean;
  readonly strictPolicy: string;
  readonly mrenclave?: string;
  readonly mrsigner?: string;
  readonly isvprodid?: number;
  readonly isvsvn?: number;
  readonly quoteBytes: Uint8Array;
  readonly collateralText: string;
  readonly collateralData: DcapCollateral;
}

interface CaseRecord extends Omit<DcapCase, 'kind'> {
  readonly kind: string;
  readonly quote: string;
  readonly collateral: string;
}

const records = (JSON.parse(readFileSync(`${FOLDER}/cases.json`, 'utf8')) as { cases: CaseRecord[] }).cases;

export const dcapCases: readonly DcapCase[] = records
  .filter(({ kind }) => kind === 'sgx' || kind === 'tdx')
  .map((record) => {
    const collateralText = readFileSync(`${FOLDER}/${record.collateral}`, 'utf8');
    return {
      ...record,
      kind: record.kind as DcapCase['kind'],
      quoteBytes: Uint8Array.from(readFileSync(`${FOLDER}/${record.quote}`)),
      collateralText,
      collateralData: JSON.parse(collateralText) as DcapCollateral,
    };
  });

export function isRefused({ status }: DcapCase): boolean {
  return status?.startsWith('no matching TCB level') ?? false;
}

export const acceptedCases: readonly DcapCase[] = dcapCases.filter((vector) => !isRefused(vector));

/** Parses and verifies with whatever is overridden. */
export function verifyCase(
  vector: DcapCase,
  change: { bytes?: Uint8Array; now?: number; collateral?: DcapCollateral } = {},
): SgxFacts | TdxFacts {
  const { bytes = vector.quoteBytes, collateral = vector.collateralData } = change;
  const now = 'now' in change ? (change.now as number) : vector.now;
  return verifyDcapQuote(parseDcapQuote(bytes), { now, collateral }).platform as SgxFacts | TdxFacts;
}

export interface Layout {
  /** Byte offset of the field and its length. */
  readonly fields: Readonly<
    Record<'header' | 'body' | 'signature' | 'key' | 'qeReport' | 'qeAuth' | 'chain', [number, number]>
  >;
  /** Of the 4-byte length of the signature section. */
  readonly sectionLength: number;
  /** Where the signature section ends. */
  readonly end: number;
}

/** Offsets found independently of the parser under test. */
export function layoutOf(bytes: Uint8Array): Layout {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const version = view.getUint16(0, true);
  const bodyAt = version === 5 ? 54 : 48;
  const bodySize = version === 3 ? 384 : version === 4 ? 584 : view.getUint32(50, true);
  const sectionLength = bodyAt + bodySize;
  const section = sectionLength + 4;
  const qeReport = section + 128 + (version === 3 ? 0 : 6);
  const authAt = qeReport + 384 + 64 + 2;
  const authSize = view.getUint16(authAt - 2, true);
  const end = section + view.getUint32(sectionLength, true);
  const chain = authAt + authSize + 6;
  return {
    fields: {
      header: [0, 48],
      body: [bodyAt, bodySize],
      signature: [section, 64],
      key: [section + 64, 64],
      qeReport: [qeReport, 384],
      qeAuth: [authAt, authSize],
      chain: [chain, end - chain],
    },
    sectionLength,
    end,
  };
}

export function flipBit(bytes: Uint8Array, at: number, bit: number): Uint8Array {
  return bytes.map((byte, i) => (i === at ? byte ^ (1 << bit) : byte));
}
