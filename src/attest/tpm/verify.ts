// TPM 2.0 quotes: did this TPM measure these PCRs and sign them for this enclave's keys? Zone: owner (verifier).
// TPM 2.0 Library, parts 1 and 2. Pure. Tested against swtpm; not run on a hardware TPM. A TPM vouches for what was started,
// not for memory: whoever controls the machine can read the enclave. Whether the PCRs are acceptable is the policy's question.
import { createHash, verify } from 'node:crypto';
import { concatBytes, encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import type { TpmFacts, VerifiedQuote } from '../verified.js';
import { checkNow } from '../x509/certificate.js';
import type { ActivatedKey } from './activated-key.js';
import { parseTpmAttest, type TpmAttest } from './attest.js';
import { parseAttestationKey } from './public-area.js';
import type { TpmQuote } from './quote.js';
import { parseTpmSignature } from './signature.js';

export type VerifiedTpmQuote = VerifiedQuote & {
  readonly platform: TpmFacts;
  readonly clockInfo: TpmAttest['clockInfo'];
};

export interface TpmOptions {
  /** Unix seconds to verify at. */
  readonly now: number;
  /** Results of credential activation; the quote must be signed by one of them. */
  readonly activatedKeys: readonly ActivatedKey[];
}

/** Throws MalformedError, UnsupportedError or VerificationError; returns facts only when the signature and every value hold. */
export function verifyTpmQuote(quote: TpmQuote, { now, activatedKeys }: TpmOptions): VerifiedTpmQuote {
  checkNow(now);
  const attestationKey = parseAttestationKey(quote.akPublic);
  const attestationKeyName = encodeHex(attestationKey.name.subarray(2));
  const key = activatedKeys.find((known) => known.attestationKeyName === attestationKeyName);
  if (key === undefined) {
    throw new VerificationError('tpm-activation', 'the quote is signed by a key that was not activated', {
      attestationKeyName,
    });
  }
  if (now > key.endorsedUntil) {
    throw new VerificationError('certificate-time', "the endorsement certificate of the quote's TPM has expired", {
      endorsedUntil: key.endorsedUntil,
      now,
    });
  }
  const signature = parseTpmSignature(quote.signature);
  const signer = { key: attestationKey.publicKey, dsaEncoding: 'ieee-p1363' } as const;
  if (!verify('sha256', quote.attest, signer, signature)) {
    throw new VerificationError('tpm-signature', 'the signature of the TPM quote does not verify');
  }
  const attest = parseTpmAttest(quote.attest);
  // TPMs without SHA-512 take at most 32 bytes of qualifying data; those quote the report data's SHA-256.
  const hashed = createHash('sha256').update(quote.reportData).digest();
  const expected = attest.extraData.length === hashed.length ? hashed : quote.reportData;
  if (quote.reportData.length !== 64 || !equalBytes(attest.extraData, expected)) {
    throw new VerificationError('tpm-report-data', 'the TPM quote is over other report data (nonce or keys)');
  }
  checkPcrs(quote, attest);
  const pcrs = Object.fromEntries([...quote.pcrs].map(([index, value]) => [String(index), encodeHex(value)]));
  const { endorsementCa, softwareTpm } = key;
  return {
    reportData: quote.reportData,
    platform: { kind: 'tpm', pcrs, attestationKeyName, endorsementCa, softwareTpm },
    clockInfo: attest.clockInfo,
  };
}

function checkPcrs({ pcrs }: TpmQuote, { selection, pcrDigest }: TpmAttest): void {
  const given = [...pcrs.keys()].sort((a, b) => a - b);
  if (given.length !== selection.length || given.some((index, i) => index !== selection[i])) {
    throw new VerificationError('tpm-pcrs', 'the given PCRs are not the ones that the TPM quoted', {
      given: given.join(),
      quoted: selection.join(),
    });
  }
  const digest = createHash('sha256')
    .update(concatBytes(...selection.map((index) => pcrs.get(index)!)))
    .digest();
  if (!equalBytes(digest, pcrDigest)) {
    throw new VerificationError('tpm-pcrs', 'the given PCR values are not the ones that the TPM quoted');
  }
}
