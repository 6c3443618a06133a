// Attestation keys that a TPM has proven to hold beside its certified endorsement key. Zone: owner (verifier).
// TPM 2.0 Library, part 1, section 24: 1 endorse (chain, attributes) → 2 makeCredential with a secret → the TPM opens it → 3 prove.
// Quotes are believed only under an ActivatedKey, which only step 3 makes.
import { timingSafeEqual } from 'node:crypto';
import { encodeHex } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import { type Credential, MAX_SECRET_BYTES, makeCredential } from './credential.js';
import { type TpmEndorsement, type TpmRoot, verifyTpmEndorsement } from './endorsement.js';
import { type PublicArea, parseAttestationKey } from './public-area.js';

declare const endorsed: unique symbol;
declare const activated: unique symbol;

/** What remains of an activation; plain values, so that the owner may store them. */
export interface KeyFacts {
  /** Hex SHA-256 of the attestation key's public area. */
  readonly attestationKeyName: string;
  readonly endorsementCa: string;
  readonly softwareTpm: boolean;
  /** Unix seconds: after this the endorsement certificate's chain is no longer valid. */
  readonly endorsedUntil: number;
}

/** The chain holds; whether the TPM holds the attestation key is not known yet. */
export type EndorsedKey = KeyFacts & {
  readonly endorsementKey: PublicArea;
  readonly akName: Uint8Array;
  readonly [endorsed]: true;
};

/** The TPM under `endorsementCa` holds the attestation key. */
export type ActivatedKey = KeyFacts & { readonly [activated]: true };

/** Step 1. Throws MalformedError, UnsupportedError or VerificationError. `akPublic`: TPM2B_PUBLIC. */
export function endorseKey(
  endorsement: TpmEndorsement,
  akPublic: Uint8Array,
  options: { readonly now: number; readonly roots: readonly TpmRoot[] },
): EndorsedKey {
  const verified = verifyTpmEndorsement(endorsement, options);
  const { name } = parseAttestationKey(akPublic);
  return { ...verified, akName: name, attestationKeyName: encodeHex(name.subarray(2)) } as EndorsedKey;
}

/** Step 2. `secret`: 32 random bytes for this activation alone; keep it, send only the credential. */
export function challengeKey(key: EndorsedKey, secret: Uint8Array): Credential {
  return makeCredential({ endorsementKey: key.endorsementKey, akName: key.akName, secret });
}

/** Step 3. Throws VerificationError('tpm-activation') unless the TPM gave back `secret`. */
export function proveKey(key: EndorsedKey, secret: Uint8Array, returned: Uint8Array): ActivatedKey {
  const usable = secret.length > 0 && secret.length <= MAX_SECRET_BYTES && returned.length === secret.length;
  if (!usable || !timingSafeEqual(secret, returned)) {
    throw new VerificationError(
      'tpm-activation',
      'the TPM did not open the credential: the attestation key is not proven',
    );
  }
  return recallKey(key);
}

/** A key that was activated before, from the owner's own store and from nowhere else. */
export function recallKey({ attestationKeyName, endorsementCa, softwareTpm, endorsedUntil }: KeyFacts): ActivatedKey {
  return { attestationKeyName, endorsementCa, softwareTpm, endorsedUntil } as ActivatedKey;
}
