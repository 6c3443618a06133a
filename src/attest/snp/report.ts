// Attestation report of AMD SEV-SNP, versions 2 to 5. Zone: owner (verifier). Says nothing about whether the report is true.
// SEV Secure Nested Paging Firmware ABI (56860), ATTESTATION_REPORT. Every reserved bit must be zero, so one report has one form.
import { concatBytes, encodeHex } from '../../trusted/wire/bytes.js';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { SnpFacts } from '../verified.js';
import { productOfCpuid, type SnpProduct } from './tcb.js';

export const SNP_REPORT_BYTES = 1184;
const SIGNED_BYTES = 0x2a0;
const NEWEST_VERSION = 5;

export interface SnpReport {
  readonly version: number;
  readonly guestSvn: number;
  readonly policy: SnpFacts['policy'];
  readonly vmpl: number;
  /** null: not signed. */
  readonly signedBy: 'VCEK' | 'VLEK' | null;
  /** From the processor's family and model; null in version 2, which does not state them. */
  readonly product: SnpProduct | null;
  readonly reportData: Uint8Array;
  readonly measurement: string;
  readonly hostData: string;
  readonly idKeyDigest: string;
  readonly authorKeyDigest: string;
  /** TCB_VERSION, 8 bytes; its layout depends on the product. */
  readonly reportedTcb: Uint8Array;
  readonly chipId: Uint8Array;
  /** What the signature covers. */
  readonly signed: Uint8Array;
  /** r‖s, big endian, 96 bytes. */
  readonly signature: Uint8Array;
}

function malformed(what: string, offset: number): MalformedError {
  return new MalformedError('snp-report', `SNP report: ${what}`, { offset });
}

/** Throws MalformedError ('snp-report'), or UnsupportedError for versions and algorithms this release does not know. */
export function parseSnpReport(bytes: Uint8Array): SnpReport {
  if (bytes.length !== SNP_REPORT_BYTES) throw malformed(`expected ${SNP_REPORT_BYTES} bytes, got ${bytes.length}`, 0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u32 = (offset: number): number => view.getUint32(offset, true);
  const slice = (offset: number, size: number): Uint8Array => Uint8Array.from(bytes.subarray(offset, offset + size));
  const hex = (offset: number, size: number): string => encodeHex(bytes.subarray(offset, offset + size));
  const zero = (from: number, to: number): void => {
    const at = bytes.subarray(from, to).findIndex((byte) => byte !== 0);
    if (at >= 0) throw malformed('reserved bytes are not zero', from + at);
  };

  const version = u32(0);
  if (version < 2) throw malformed(`version ${version} never had this layout`, 0);
  if (version > NEWEST_VERSION) {
    throw new UnsupportedError('snp-version', `SNP report version ${version} is newer than this release knows`, {
      version,
    });
  }
  if (u32(0x34) !== 1) {
    throw new UnsupportedError('snp-algorithm', 'the SNP report is not signed with ECDSA P-384 and SHA-384', {
      algorithm: u32(0x34),
    });
  }
  const vmpl = u32(0x30);
  // 0xffffffff marks a report that the host asked for, with report data of its choice.
  if (vmpl > 3) throw malformed('the VMPL is not one of a guest (0 to 3); the host may have made this report', 0x30);
  const flags = u32(0x48);
  if (flags > 0x1f) throw malformed('unknown flags are set', 0x48);

  zero(0x4c, 0x50);
  const family = version >= 3 ? bytes[0x188]! : null;
  zero(family === null ? 0x188 : 0x18b, 0x1a0);
  zero(0x1eb, 0x1ec);
  zero(0x1ef, 0x1f0);
  zero(version >= 4 ? 0x208 : 0x1f8, SIGNED_BYTES);
  return {
    version,
    guestSvn: u32(4),
    policy: parsePolicy(u32(8), u32(12)),
    vmpl,
    signedBy: signerOf(flags),
    product: family === null ? null : productOfCpuid(family, bytes[0x189]!),
    reportData: slice(0x50, 64),
    measurement: hex(0x90, 48),
    hostData: hex(0xc0, 32),
    idKeyDigest: hex(0xe0, 48),
    authorKeyDigest: hex(0x110, 48),
    reportedTcb: slice(0x180, 8),
    chipId: slice(0x1a0, 64),
    signed: slice(0, SIGNED_BYTES),
    signature: parseSignature(bytes.subarray(SIGNED_BYTES)),
  };
}

function parsePolicy(low: number, high: number): SnpFacts['policy'] {
  const bit = (index: number): boolean => ((low >>> index) & 1) === 1;
  // Bits 21 to 25 only restrict or widen what memory and power features the host may use.
  if (!bit(17) || high !== 0 || low >>> 26 !== 0) throw malformed('reserved bits of the guest policy are wrong', 8);
  return {
    abiMajor: (low >>> 8) & 0xff,
    abiMinor: low & 0xff,
    smt: bit(16),
    migrateMa: bit(18),
    debug: bit(19),
    singleSocket: bit(20),
  };
}

/** Bit 1 is MASK_CHIP_KEY, bits 2 to 4 name the key. */
function signerOf(flags: number): 'VCEK' | 'VLEK' | null {
  const key = flags >>> 2;
  if ((flags & 2) !== 0 || key === 7) return null;
  if (key > 1) throw malformed(`signing key ${key} is not known`, 0x48);
  return key === 0 ? 'VCEK' : 'VLEK';
}

/** Two little-endian numbers of 72 bytes, then zeros. */
function parseSignature(bytes: Uint8Array): Uint8Array {
  const number = (from: number): Uint8Array => {
    if (bytes.subarray(from + 48, from + 72).some((byte) => byte !== 0)) {
      throw malformed('the signature is longer than P-384 allows', SIGNED_BYTES + from);
    }
    return Uint8Array.from(bytes.subarray(from, from + 48)).reverse();
  };
  if (bytes.subarray(144).some((byte) => byte !== 0)) throw malformed('bytes follow the signature', SIGNED_BYTES + 144);
  return concatBytes(number(0), number(72));
}
