// The certificate table that the host hands to an SNP guest (configfs-tsm `auxblob`), and quotes that carry it. Zone: owner (verifier).
// SEV-ES Guest-Hypervisor Communication Block (56421), SNP Extended Guest Request: entries of GUID, offset, length; a zero entry ends them.
// The host may write anything here: nothing in it is believed before the chain holds.
import { encodeHex } from '../../trusted/wire/bytes.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { MAX_EVIDENCE_BYTES } from '../../trusted/wire/limits.js';
import { parseSnpReport, SNP_REPORT_BYTES, type SnpReport } from './report.js';

export interface CertificateTable {
  readonly vcek: Uint8Array | null;
  readonly vlek: Uint8Array | null;
  readonly ask: Uint8Array | null;
  readonly ark: Uint8Array | null;
  readonly crl: Uint8Array | null;
}

/** A report with the table that came with it. */
export interface SnpQuote {
  readonly report: SnpReport;
  readonly table: CertificateTable;
}

const ENTRY_BYTES = 24;
const MAX_ENTRIES = 64;
/** The GUIDs' text in order, as Linux and its hosts write them. */
const NAMES: Readonly<Record<string, keyof CertificateTable>> = {
  '63da758de6644564adc5f4b93be8accd': 'vcek',
  a8074bc2a25a483eaae639c045a0b8a1: 'vlek',
  '4ab7b379bbac4fe4a02f05aef327c782': 'ask',
  c0b406a4a803495297433fb6014cd0ae: 'ark',
  '92f81bc358114d3d97ffd19f88dc67ea': 'crl',
};

function malformed(what: string, offset: number): MalformedError {
  return new MalformedError('snp-certificate-table', `SNP certificate table: ${what}`, { offset });
}

/** Entries of other GUIDs are passed over. Throws MalformedError; no bytes at all, or zeros only, are an empty table. */
export function parseCertificateTable(bytes: Uint8Array): CertificateTable {
  const found: Record<keyof CertificateTable, Uint8Array | null> = {
    vcek: null,
    vlek: null,
    ask: null,
    ark: null,
    crl: null,
  };
  if (bytes.length === 0) return found;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let index = 0; index <= MAX_ENTRIES; index++) {
    const at = index * ENTRY_BYTES;
    if (at + ENTRY_BYTES > bytes.length) throw malformed('does not end with a zero entry', at);
    const entry = bytes.subarray(at, at + ENTRY_BYTES);
    if (entry.every((byte) => byte === 0)) return found;
    const [offset, length] = [view.getUint32(at + 16, true), view.getUint32(at + 20, true)];
    if (length === 0 || offset < at + ENTRY_BYTES || offset + length > bytes.length) {
      throw malformed('an entry points outside the table', at);
    }
    const name = NAMES[encodeHex(entry.subarray(0, 16))];
    if (name === undefined) continue;
    if (found[name] !== null) throw malformed(`has two entries ${name}`, at);
    found[name] = Uint8Array.from(bytes.subarray(offset, offset + length));
  }
  throw malformed(`has more than ${MAX_ENTRIES} entries`, MAX_ENTRIES * ENTRY_BYTES);
}

/** Evidence quote of kind `snp`: the report, followed by the certificate table (which may be empty). */
export function parseSnpQuote(bytes: Uint8Array): SnpQuote {
  if (bytes.length < SNP_REPORT_BYTES || bytes.length > MAX_EVIDENCE_BYTES) {
    throw new MalformedError('snp-quote', `an SNP quote has ${SNP_REPORT_BYTES} bytes of report and then a table`, {
      length: bytes.length,
    });
  }
  return {
    report: parseSnpReport(bytes.subarray(0, SNP_REPORT_BYTES)),
    table: parseCertificateTable(bytes.subarray(SNP_REPORT_BYTES)),
  };
}
