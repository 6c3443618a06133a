// Decides whether a grant unlocks this enclave: the owner's signature, this bundle, this enclave, this time, a new licence. Zone: trusted.
import { openPart } from '../lock/sealed-part.js';
import { VerificationError } from '../wire/errors.js';
import { decodeGrantContents } from '../wire/grant.js';
import { type Licence, verifyLicence } from '../wire/licence.js';
import { MAX_LICENCES } from '../wire/limits.js';
import type { Manifest } from '../wire/manifest.js';
import type { LicenceAccount } from './record.js';
import { orRefuse, refuse } from './refuse.js';

export interface GrantContext {
  readonly ownerKey: Uint8Array;
  readonly bundleId: string;
  readonly enclaveKeyId: string;
  readonly manifest: Manifest;
  readonly sealedPart: Uint8Array;
  readonly accounts: readonly LicenceAccount[];
  /** Unix seconds. */
  readonly now: number;
}

export interface AcceptedGrant {
  readonly licence: Licence;
  readonly bundleKey: Uint8Array;
  readonly lockSeed: Uint8Array;
}

function readLicence(jws: string, ownerKey: Uint8Array): Licence {
  try {
    return verifyLicence(jws, ownerKey);
  } catch (error) {
    return refuse(error instanceof VerificationError ? 'licence-signature' : 'licence-malformed');
  }
}

/** `opened` is the plaintext of the grant, empty when HPKE did not open it. Refuses with the first reason found. */
export function acceptGrant(opened: Uint8Array, context: GrantContext): AcceptedGrant {
  const { bundleKey, licenceJws } = orRefuse('grant-unreadable', () => decodeGrantContents(opened));
  const licence = readLicence(licenceJws, context.ownerKey);
  if (licence.bundleId !== context.bundleId) refuse('licence-other-bundle');
  if (licence.enclaveKeyId !== context.enclaveKeyId) refuse('licence-other-enclave');
  // A licence counts once: otherwise repeating an old grant would refill its budget.
  if (context.accounts.some((account) => account.licence.licenceId === licence.licenceId)) refuse('licence-replayed');
  if (context.accounts.length >= MAX_LICENCES) refuse('too-many-licences');
  if (context.now < licence.notBefore) refuse('licence-not-yet-valid', licence.notBefore, context.now);
  if (context.now > licence.expires) refuse('licence-expired', licence.expires, context.now);
  const { scheme, model } = context.manifest;
  const { lockSeed } = orRefuse('bundle-key-wrong', () => openPart(context.sealedPart, bundleKey, scheme, model));
  return { licence, bundleKey, lockSeed };
}
