// Evidence quote of kind `tpm`: one byte string with everything a verifier needs besides the activated key. Zone: owner (verifier).
// Length-prefixed: report data, TPMS_ATTEST, signature, attestation key (TPM2B_PUBLIC), PCR values. One value, one encoding.
import { Reader, Writer } from '../../trusted/wire/codec.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { MAX_EVIDENCE_BYTES } from '../../trusted/wire/limits.js';

export interface TpmQuote {
  /** 64 bytes; the quote's qualifying data is these, or their SHA-256 for TPMs that take at most 32 bytes. */
  readonly reportData: Uint8Array;
  /** TPMS_ATTEST */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE or DER. */
  readonly signature: Uint8Array;
  /** TPM2B_PUBLIC */
  readonly akPublic: Uint8Array;
  /** PCR index → 32 bytes of the SHA-256 bank; the quoted ones. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
}

const VERSION = 1;
const MAX_PCRS = 32;

export function encodeTpmQuote({ reportData, attest, signature, akPublic, pcrs }: TpmQuote): Uint8Array {
  const writer = new Writer()
    .u8(VERSION)
    .bytes(reportData)
    .bytes(attest)
    .bytes(signature)
    .bytes(akPublic)
    .u8(pcrs.size);
  for (const [index, value] of [...pcrs].sort(([a], [b]) => a - b)) writer.u8(index).raw(value);
  return writer.finish();
}

/** Throws MalformedError; says nothing about whether the quote is true. */
export function parseTpmQuote(bytes: Uint8Array): TpmQuote {
  const reader = new Reader(bytes.subarray(0, MAX_EVIDENCE_BYTES + 1));
  if (reader.u8() !== VERSION) throw new MalformedError('tpm-quote', 'the TPM quote is not of version 1');
  const [reportData, attest, signature, akPublic] = [
    reader.bytes(),
    reader.bytes(),
    reader.bytes(),
    reader.bytes(),
  ] as const;
  if (reportData.length !== 64)
    throw new MalformedError('tpm-quote', 'the TPM quote must carry 64 bytes of report data');
  const count = reader.u8();
  if (count > MAX_PCRS) throw new MalformedError('tpm-quote', `the TPM quote has ${count} PCRs`);
  const pcrs = new Map<number, Uint8Array>();
  let last = -1;
  for (let i = 0; i < count; i++) {
    const index = reader.u8();
    if (index <= last || index >= MAX_PCRS)
      throw new MalformedError('tpm-quote', 'the PCRs are not in order', { index });
    pcrs.set(index, reader.raw(32));
    last = index;
  }
  reader.end();
  return { reportData, attest, signature, akPublic, pcrs };
}
