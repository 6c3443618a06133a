// Grants: a signed licence and the bundle key, sealed by HPKE to one enclave whose evidence was appraised. Zone: owner.
// DESIGN section 7. The type of `evidence` makes it impossible to release a key to bytes that skipped verification.
import { randomUUID } from 'node:crypto';
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { DhkemX25519HkdfSha256 } from '@hpke/dhkem-x25519';
import type { AppraisedEvidence } from '../attest/verified.js';
import { equalBytes } from '../trusted/wire/bytes.js';
import { PolicyError } from '../trusted/wire/errors.js';
import { GRANT_INFO } from '../trusted/wire/grant.js';
import { keyId } from '../trusted/wire/jws.js';
import type { Licence } from '../trusted/wire/licence.js';
import { encodeGrantContents, encodeLicence, encodeSealedGrant } from './encode-grant.js';
import type { OwnerKeys } from './owner-keys.js';
import { signWithOwnerKey } from './sign.js';

export interface LicenceTerms {
  readonly budgetTokens: number;
  /** Positions that one lease covers; 0 (default): the licence needs no leases. */
  readonly leaseTokens?: number;
  readonly topK: number;
  readonly precision: Licence['precision'];
  readonly temperature: { readonly min: number; readonly max: number };
  /** Unix seconds. */
  readonly notBefore: number;
  readonly expires: number;
  /** Unique per licence; random when absent. */
  readonly licenceId?: string;
}

export interface GrantRequest {
  readonly keys: OwnerKeys;
  readonly evidence: AppraisedEvidence;
  readonly terms: LicenceTerms;
}

export interface Grant {
  readonly licence: Licence;
  /** The bytes for `unlock`; only the attested enclave process can open them. */
  readonly grant: Uint8Array;
}

/** Throws PolicyError('evidence-owner') when the enclave obeys another owner, MalformedError for terms out of range. */
export async function grantLicence({ keys, evidence, terms }: GrantRequest): Promise<Grant> {
  const { claims } = evidence;
  if (!equalBytes(claims.ownerKey, keys.signingKey)) {
    throw new PolicyError('evidence-owner', 'the enclave was started for another owner key; no key is released to it');
  }
  const { budgetTokens, leaseTokens = 0, topK, precision, temperature, notBefore, expires } = terms;
  const licenceId = terms.licenceId ?? randomUUID();
  const limits = { budgetTokens, leaseTokens, topK, precision, temperature, notBefore, expires };
  const licence: Licence = { ...limits, licenceId, bundleId: claims.bundleId, enclaveKeyId: keyId(claims.signingKey) };
  const licenceJws = await signWithOwnerKey('licence', encodeLicence(licence), keys);
  const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
  const recipientPublicKey = await suite.kem.deserializePublicKey(new Uint8Array(claims.encryptionKey));
  const contents = encodeGrantContents({ bundleKey: keys.bundleKey, licenceJws });
  const associated = new TextEncoder().encode(claims.bundleId);
  const sealed = await suite.seal({ recipientPublicKey, info: GRANT_INFO }, contents, associated);
  const grant = encodeSealedGrant({ encapsulated: new Uint8Array(sealed.enc), ciphertext: new Uint8Array(sealed.ct) });
  return { licence, grant };
}
