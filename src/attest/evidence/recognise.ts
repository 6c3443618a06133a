// Which kind of quote are these bytes? Zone: owner (verifier). Only a guess to choose the parser by; the parser decides.

const SNP_REPORT_BYTES = 1184;

/** Quotes straight from Intel's or AMD's interface; null for anything else. */
export function recogniseQuote(bytes: Uint8Array): 'sgx' | 'tdx' | 'snp' | null {
  if (bytes.length < 64) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Quote header: version, attestation key type (ECDSA P-256 is 2), TEE type.
  const version = view.getUint16(0, true);
  if (version >= 3 && version <= 5 && view.getUint16(2, true) === 2) {
    return view.getUint32(4, true) === 0x81 ? 'tdx' : 'sgx';
  }
  // SNP report: version 2 or later, signature algorithm 1.
  const report = bytes.length >= SNP_REPORT_BYTES && view.getUint32(0x34, true) === 1;
  return report && view.getUint32(0, true) >= 2 && view.getUint32(0, true) < 16 ? 'snp' : null;
}
