// Intel DCAP quotes: SGX version 3, TDX versions 4 and 5. Zone: owner (verifier).
// Intel SGX DCAP Quote Library API, appendix A, and Intel TDX DCAP Quoting Library API, appendix 3. Every length must come out even;
// only a TDX version 4 quote may be followed by zero bytes, which the guest's device leaves there.
import { decodeUtf8, encodeHex } from '../../trusted/wire/bytes.js';
import { UnsupportedError } from '../../trusted/wire/errors.js';
import { MAX_EVIDENCE_BYTES } from '../../trusted/wire/limits.js';
import { ByteReader } from './byte-reader.js';
import { type Certificate, parsePemChain } from './certificates.js';
import {
  ENCLAVE_REPORT_BYTES,
  type EnclaveReport,
  parseEnclaveReport,
  parseTdReport,
  TD_REPORT_10_BYTES,
  TD_REPORT_15_BYTES,
  type TdReport,
} from './reports.js';

const HEADER_BYTES = 48;
const ECDSA_P256 = 2;
const TEE_SGX = 0x00;
const TEE_TDX = 0x81;
const BODY_TD_10 = 2;
const BODY_TD_15 = 3;
const PCK_CHAIN = 5;
const QE_REPORT = 6;
const INTEL_QE_VENDOR = '939a7233f79c4ca9940a0db3957f0607';

export type QuoteBody =
  | { readonly kind: 'sgx'; readonly report: EnclaveReport }
  | { readonly kind: 'tdx'; readonly report: TdReport };

/** Parsed, nothing verified. Byte arrays are views into a copy of the input. */
export interface DcapQuote {
  readonly version: 3 | 4 | 5;
  readonly body: QuoteBody;
  /** What the attestation key signed: header and body. */
  readonly signed: Uint8Array;
  /** r‖s, 64 bytes. */
  readonly signature: Uint8Array;
  /** x‖y, 64 bytes. */
  readonly attestationKey: Uint8Array;
  readonly qeReport: EnclaveReport;
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthData: Uint8Array;
  /** PCK certificate, its authority, root. */
  readonly pckChain: readonly [Certificate, Certificate, Certificate];
}

function readHeader(reader: ByteReader): 3 | 4 | 5 {
  const version = reader.u16();
  const keyType = reader.u16();
  const tee = reader.u32();
  reader.raw(4); // QE SVN and PCE SVN in version 3, reserved later.
  const vendor = encodeHex(reader.raw(16));
  reader.raw(20); // user data
  if (version !== 3 && version !== 4 && version !== 5) {
    throw new UnsupportedError('dcap-quote', `quote version ${version}: only 3, 4 and 5 are read`, { version });
  }
  const expected = version === 3 ? TEE_SGX : TEE_TDX;
  if (tee !== expected) {
    throw new UnsupportedError('dcap-quote', `TEE type ${tee} in a quote of version ${version}`, { version, tee });
  }
  if (keyType !== ECDSA_P256) {
    throw new UnsupportedError('dcap-quote', `attestation key type ${keyType}: only ECDSA P-256 is read`, { keyType });
  }
  if (vendor !== INTEL_QE_VENDOR) {
    throw new UnsupportedError('dcap-quote', "the quoting enclave is not Intel's", { vendor });
  }
  return version;
}

function readBody(reader: ByteReader, version: 3 | 4 | 5): QuoteBody {
  if (version === 3) {
    return { kind: 'sgx', report: parseEnclaveReport(reader.raw(ENCLAVE_REPORT_BYTES), 'enclave report') };
  }
  let size = TD_REPORT_10_BYTES;
  if (version === 5) {
    const type = reader.u16();
    if (type !== BODY_TD_10 && type !== BODY_TD_15) {
      throw new UnsupportedError('dcap-quote', `quote body type ${type}: only TD reports 1.0 and 1.5 are read`, {
        type,
      });
    }
    if (type === BODY_TD_15) size = TD_REPORT_15_BYTES;
    if (reader.u32() !== size) reader.fail(`the body should have ${size} bytes`);
  }
  return { kind: 'tdx', report: parseTdReport(reader.raw(size)) };
}

/** The certification data of `type`, which must fill the reader. */
function readCertification(reader: ByteReader, type: number): Uint8Array {
  const found = reader.u16();
  if (found !== type) {
    throw new UnsupportedError('dcap-quote', `certification data of type ${found}; only ${type} is read here`, {
      found,
    });
  }
  const data = reader.raw(reader.u32());
  reader.end();
  return data;
}

/** Throws MalformedError or UnsupportedError unless `bytes` are exactly one such quote. */
export function parseDcapQuote(bytes: Uint8Array): DcapQuote {
  const copy = Uint8Array.from(bytes);
  const reader = new ByteReader(copy, 'quote');
  if (copy.length > MAX_EVIDENCE_BYTES) reader.fail(`longer than ${MAX_EVIDENCE_BYTES} bytes`);
  const version = readHeader(new ByteReader(reader.raw(HEADER_BYTES), 'quote header'));
  const body = readBody(reader, version);
  const signed = copy.subarray(0, reader.at);
  const section = new ByteReader(reader.raw(reader.u32()), 'signature section');
  if (version === 4) reader.zeros(reader.rest());
  reader.end();

  const signature = section.raw(64);
  const attestationKey = section.raw(64);
  const qe = version === 3 ? section : new ByteReader(readCertification(section, QE_REPORT), 'certification data');
  const qeReport = parseEnclaveReport(qe.raw(ENCLAVE_REPORT_BYTES), 'report of the quoting enclave');
  const qeReportSignature = qe.raw(64);
  const qeAuthData = qe.raw(qe.u16());
  const pem = decodeUtf8(readCertification(qe, PCK_CHAIN)).replace(/\0$/, '');
  const [leaf, authority, root] = parsePemChain(pem, 3, 'PCK chain');
  const pckChain = [leaf!, authority!, root!] as const;
  return { version, body, signed, signature, attestationKey, qeReport, qeReportSignature, qeAuthData, pckChain };
}
