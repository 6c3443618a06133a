// What a TPM signs when it quotes: TPMS_ATTEST. Zone: owner (verifier). TPM 2.0 Library, part 2, section 10.12.
// Only the SHA-256 bank, one selection; trailing bytes are refused.
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import { TPM, TpmReader } from './byte-reader.js';

export interface TpmAttest {
  readonly qualifiedSigner: Uint8Array;
  /** Qualifying data of TPM2_Quote. */
  readonly extraData: Uint8Array;
  readonly clockInfo: {
    /** Milliseconds the TPM has been powered. */
    readonly clock: bigint;
    readonly resetCount: number;
    readonly restartCount: number;
    /** False: the clock may have gone backwards. */
    readonly safe: boolean;
  };
  readonly firmwareVersion: bigint;
  /** Indexes of the quoted PCRs, ascending, at least one. */
  readonly selection: readonly number[];
  readonly pcrDigest: Uint8Array;
}

/** TPM_GENERATED_VALUE: a restricted key never signs outside data that begins so. */
const MAGIC = 0xff544347;
const QUOTE = 0x8018;

/** Throws MalformedError('tpm') unless `bytes` are exactly one quote. */
export function parseTpmAttest(bytes: Uint8Array): TpmAttest {
  const reader = new TpmReader(bytes, 'TPM quote');
  if (reader.u32() !== MAGIC) throw reader.fail('was not made by a TPM (magic)');
  reader.expect16(QUOTE, 'type');
  const qualifiedSigner = reader.sized(34, 34);
  const extraData = reader.sized(0, 66);
  const clock = reader.u64();
  const resetCount = reader.u32();
  const restartCount = reader.u32();
  const safe = reader.u8();
  if (safe > 1) throw reader.fail('has a flag that is neither yes nor no');
  const firmwareVersion = reader.u64();
  const count = reader.u32();
  if (count !== 1)
    throw new UnsupportedError('tpm-selection', 'the TPM quote must select PCRs of exactly one bank', { count });
  if (reader.u16() !== TPM.sha256)
    throw new UnsupportedError('tpm-selection', 'the TPM quote is not over the SHA-256 bank');
  const size = reader.u8();
  if (size < 1 || size > 4) throw reader.fail(`selects PCRs in ${size} bytes`);
  const selection: number[] = [];
  for (const [i, byte] of reader.raw(size).entries()) {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) selection.push(8 * i + bit);
  }
  if (selection.length === 0) throw new MalformedError('tpm', 'TPM quote: selects no PCR');
  const pcrDigest = reader.sized(32, 32);
  reader.end();
  return {
    qualifiedSigner,
    extraData,
    clockInfo: { clock, resetCount, restartCount, safe: safe === 1 },
    firmwareVersion,
    selection,
    pcrDigest,
  };
}
