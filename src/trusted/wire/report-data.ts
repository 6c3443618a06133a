// Report data: the 64 bytes that hardware signs, binding an enclave's keys to a nonce, a bundle and an owner. Zone: trusted.
// Evidence: those inputs next to the platform's quote over their hash. DESIGN section 7.
import { createHash } from 'node:crypto';
import { decodeHex, encodeUtf8 } from './bytes.js';
import { Writer } from './codec.js';
import type { PublicKeyBytes } from './jws.js';

/** What an enclave claims about itself; a quote over `reportData` makes it believable. */
export interface Claims {
  /** Platform kind: `simulated`, later `sgx`, `tdx`, `snp`, `tpm`. */
  readonly kind: string;
  /** X25519 public key that grants are sealed to; new in every process. */
  readonly encryptionKey: Uint8Array;
  /** Ed25519 public key that signs the receipt. */
  readonly signingKey: PublicKeyBytes;
  readonly bundleId: string;
  /** Ed25519 public key of the owner whose licences the enclave accepts. */
  readonly ownerKey: PublicKeyBytes;
}

export interface Evidence {
  readonly claims: Claims;
  /** In the platform's own format. */
  readonly quote: Uint8Array;
}

const DOMAIN = 'distillock report data v1';

function writeClaims(writer: Writer, claims: Claims): Writer {
  return writer
    .text(claims.kind)
    .bytes(claims.encryptionKey)
    .bytes(claims.signingKey)
    .bytes(decodeHex(claims.bundleId, 32))
    .bytes(claims.ownerKey);
}

/** SHA-512 over domain tag, claims and nonce, each with its length. */
export function reportData(claims: Claims, nonce: Uint8Array): Uint8Array {
  const input = writeClaims(new Writer().bytes(encodeUtf8(DOMAIN)), claims)
    .bytes(nonce)
    .finish();
  return createHash('sha512').update(input).digest();
}

export function encodeEvidence(evidence: Evidence): Uint8Array {
  return writeClaims(new Writer(), evidence.claims).bytes(evidence.quote).finish();
}
