// The bodies that a quote signs: an SGX enclave report, or a TDX TD report 1.0 or 1.5. Zone: owner (verifier).
// Intel SDM volume 3D section 39.15 (REPORT), Intel TDX DCAP Quoting Library API, appendix 3 (TD quote body).
import { ByteReader } from './byte-reader.js';

export const ENCLAVE_REPORT_BYTES = 384;
export const TD_REPORT_10_BYTES = 584;
export const TD_REPORT_15_BYTES = 648;

/** Views into the quote. */
export interface EnclaveReport {
  readonly raw: Uint8Array;
  readonly miscSelect: Uint8Array;
  /** Flags (8 bytes) and XFRM (8 bytes). */
  readonly attributes: Uint8Array;
  readonly mrenclave: Uint8Array;
  readonly mrsigner: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reportData: Uint8Array;
}

/** Views into the quote. */
export interface TdReport {
  readonly raw: Uint8Array;
  /** TEE_TCB_SVN: [0] and [1] are the TDX module's, or [1] is its major version. */
  readonly tcbSvn: Uint8Array;
  /** TEE_TCB_SVN2, of the module running now; null in a TD report 1.0. */
  readonly tcbSvn2: Uint8Array | null;
  readonly mrSignerSeam: Uint8Array;
  readonly seamAttributes: Uint8Array;
  readonly tdAttributes: Uint8Array;
  readonly xfam: Uint8Array;
  readonly mrtd: Uint8Array;
  readonly mrConfigId: Uint8Array;
  readonly mrOwner: Uint8Array;
  readonly mrOwnerConfig: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  readonly reportData: Uint8Array;
  /** null in a TD report 1.0. */
  readonly mrServiceTd: Uint8Array | null;
}

/** `raw` has ENCLAVE_REPORT_BYTES. Throws MalformedError where a reserved byte is not zero. */
export function parseEnclaveReport(raw: Uint8Array, where: string): EnclaveReport {
  const reader = new ByteReader(raw, where);
  reader.raw(16); // CPUSVN: the PCK certificate says what counts.
  const miscSelect = reader.raw(4);
  reader.zeros(12);
  reader.raw(16); // ISVEXTPRODID
  const attributes = reader.raw(16);
  const mrenclave = reader.raw(32);
  reader.zeros(32);
  const mrsigner = reader.raw(32);
  reader.zeros(32);
  reader.raw(64); // CONFIGID
  const isvProdId = reader.u16();
  const isvSvn = reader.u16();
  reader.raw(2); // CONFIGSVN
  reader.zeros(42);
  reader.raw(16); // ISVFAMILYID
  const reportData = reader.raw(64);
  reader.end();
  return { raw, miscSelect, attributes, mrenclave, mrsigner, isvProdId, isvSvn, reportData };
}

/** `raw` has TD_REPORT_10_BYTES or TD_REPORT_15_BYTES. */
export function parseTdReport(raw: Uint8Array): TdReport {
  const reader = new ByteReader(raw, 'TD report');
  const tcbSvn = reader.raw(16);
  reader.raw(48); // MRSEAM: the module's levels say what counts.
  const mrSignerSeam = reader.raw(48);
  const seamAttributes = reader.raw(8);
  const tdAttributes = reader.raw(8);
  const xfam = reader.raw(8);
  const mrtd = reader.raw(48);
  const mrConfigId = reader.raw(48);
  const mrOwner = reader.raw(48);
  const mrOwnerConfig = reader.raw(48);
  const rtmrs = [reader.raw(48), reader.raw(48), reader.raw(48), reader.raw(48)] as const;
  const reportData = reader.raw(64);
  const newer = reader.rest() > 0;
  const tcbSvn2 = newer ? reader.raw(16) : null;
  const mrServiceTd = newer ? reader.raw(48) : null;
  reader.end();
  return {
    raw,
    tcbSvn,
    tcbSvn2,
    mrSignerSeam,
    seamAttributes,
    tdAttributes,
    xfam,
    mrtd,
    mrConfigId,
    mrOwner,
    mrOwnerConfig,
    rtmrs,
    reportData,
    mrServiceTd,
  };
}
