// One lease: the device's signature, then a debit that the database makes at most once per nonce and never beyond the budget. Zone: owner.
// The stored lease holds the amount; its signature is Ed25519 and deterministic, so a retry gets the same bytes.

import { verifyLeaseRequest } from '../../attest/lease-request.js';
import { encodeCanonicalJson } from '../../trusted/wire/canonical-json.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import type { LeaseRequest } from '../../trusted/wire/lease.js';
import type { OwnerKeys } from '../owner-keys.js';
import { signWithOwnerKey } from '../sign.js';
import { findDevice, findLease, type LeaseRecord, recordLease, seatState } from '../store/device-records.js';
import { lockLicence } from '../store/licence-records.js';
import { refusal } from './refusals.js';
import type { ServiceContext } from './service.js';
import { claimedEnclave } from './unverified.js';

/** Throws MalformedError, VerificationError('signature') and the refusals of refusals.ts. */
export async function leaseFor(context: ServiceContext, jws: string): Promise<string> {
  const enclaveKeyId = claimedEnclave('lease-request', jws);
  const device = await findDevice(context.database, enclaveKeyId);
  if (device === null) throw refusal('device-unknown');
  const request = verifyLeaseRequest(jws, device.signingKey);
  const keys = context.keysOf(device.ownerKeyId);
  if (keys === null) throw new EnvironmentError('keys-missing', 'the service lacks the keys that the device obeys');
  const earlier = await findLease(context.database, request.nonce);
  return sign(keys, sameLease(request, earlier) ?? (await debit(context, request)));
}

/** null when there is none; throws when the nonce belongs to another one. */
function sameLease(request: LeaseRequest, earlier: LeaseRecord | null): LeaseRecord | null {
  if (earlier === null) return null;
  if (earlier.licenceId === request.licenceId && earlier.enclaveKeyId === request.enclaveKeyId) return earlier;
  throw refusal('lease-nonce-used');
}

async function debit(context: ServiceContext, request: LeaseRequest): Promise<LeaseRecord> {
  const { licenceId, enclaveKeyId, nonce, chargedTokens } = request;
  return context.database.transaction(async (sql) => {
    const licence = await lockLicence(sql, licenceId);
    // Under the lock: a concurrent request with this nonce has committed or not begun.
    const earlier = sameLease(request, await findLease(sql, nonce));
    if (earlier !== null) return earlier;
    const seat = licence === null ? 'none' : await seatState(sql, licenceId, enclaveKeyId);
    if (licence === null || seat === 'none') throw refusal('device-unknown');
    if (licence.state === 'revoked') throw refusal('licence-revoked');
    if (licence.state === 'closed' || seat === 'closed') throw refusal('licence-closed');
    const time = context.now();
    if (time > licence.expires) throw refusal('licence-expired');
    if (licence.leaseTokens === 0) throw refusal('leases-none');
    const tokens = Math.min(licence.leaseTokens, licence.budgetTokens - licence.leasedTokens);
    if (tokens <= 0) throw refusal('budget-exhausted');
    const auditDetails = JSON.stringify({ enclaveKeyId, tokens, chargedTokens });
    await recordLease(sql, { nonce, licenceId, enclaveKeyId, tokens, chargedTokens, time, auditDetails });
    return { nonce, licenceId, enclaveKeyId, tokens };
  });
}

async function sign(keys: OwnerKeys, { licenceId, enclaveKeyId, nonce, tokens }: LeaseRecord): Promise<string> {
  return signWithOwnerKey('lease', encodeCanonicalJson({ licenceId, enclaveKeyId, nonce, tokens }), keys);
}
