// One grant: look everything up, appraise, seal, record. Zone: owner. The order matters: cheap checks come before costly ones,
// nothing is sealed to evidence that a policy has not accepted, and nothing is answered that is not in the database.
import { createHash } from 'node:crypto';
import type { AppraisedEvidence } from '../../attest/verified.js';
import { equalBytes } from '../../trusted/wire/bytes.js';
import { DistillockError, EnvironmentError } from '../../trusted/wire/errors.js';
import { keyId } from '../../trusted/wire/jws.js';
import type { Licence } from '../../trusted/wire/licence.js';
import { type Grant, grantLicence } from '../grant.js';
import { appendAudit } from '../store/audit.js';
import { violates } from '../store/database.js';
import { type NewGrant, readSituation, recordGrant, type StoredGrant } from '../store/grant-records.js';
import type { LicenceRecord, LicenceState } from '../store/licence-records.js';
import { hashActivationCode } from './activation-code.js';
import { refusal } from './refusals.js';
import type { GrantAnswer, ServiceContext } from './service.js';

/** A licence begins this long before it is granted: the device's clock may be behind by as much. */
export const CLOCK_SLACK_S = 600;

interface GrantQuestion {
  readonly nonce: Uint8Array;
  readonly evidence: Uint8Array;
  readonly activationCode: string;
}

/** Throws the refusals of refusals.ts. */
export async function grantFor(context: ServiceContext, question: GrantQuestion): Promise<GrantAnswer> {
  const { nonce, evidence } = question;
  const codeHash = hashActivationCode(question.activationCode);
  const evidenceHash = new Uint8Array(createHash('sha256').update(evidence).digest());
  const { challenge, grant: earlier, licence } = await readSituation(context.database, nonce, codeHash);
  if (earlier !== null) return repeat(earlier, evidenceHash, codeHash);
  if (challenge === null) throw refusal('challenge-unknown');
  const now = context.now();
  if (now > challenge.expires) throw refusal('challenge-expired');
  if (licence === null || licence.bundleId !== challenge.bundleId) throw refusal('activation-code');
  refuseState(licence.state);
  if (now > licence.expires) throw refusal('licence-expired');
  const { appraised, granted } = await appraiseAndSeal(context, question, licence, now);
  const { claims, platform } = appraised;
  const device = {
    enclaveKeyId: granted.licence.enclaveKeyId,
    signingKey: claims.signingKey,
    ownerKeyId: keyId(claims.ownerKey),
    bundleId: claims.bundleId,
  };
  const details = { enclaveKeyId: device.enclaveKeyId, platform: platform.kind };
  const recorded = await record(context, {
    ...{ nonce, evidenceHash, codeHash, device, licenceId: licence.licenceId, sealed: granted.grant, time: now },
    licence: JSON.stringify(granted.licence),
    platform: JSON.stringify(platform),
    auditDetails: JSON.stringify(details),
  });
  if (recorded) return granted;
  const { grant: other } = await readSituation(context.database, nonce, codeHash);
  if (other === null) throw new EnvironmentError('internal', 'a recorded grant is gone');
  return repeat(other, evidenceHash, codeHash);
}

/** The stored answer, to whoever asks exactly the same again. */
function repeat(earlier: StoredGrant, evidenceHash: Uint8Array, codeHash: Uint8Array): GrantAnswer {
  if (!equalBytes(earlier.evidenceHash, evidenceHash) || !equalBytes(earlier.codeHash, codeHash)) {
    throw refusal('challenge-used');
  }
  refuseState(earlier.licenceState);
  return { grant: new Uint8Array(earlier.sealed), licence: JSON.parse(earlier.licence) as Licence };
}

function refuseState(state: LicenceState): void {
  if (state === 'revoked') throw refusal('licence-revoked');
  if (state === 'closed') throw refusal('licence-closed');
}

async function appraiseAndSeal(
  context: ServiceContext,
  { nonce, evidence }: GrantQuestion,
  licence: LicenceRecord,
  now: number,
): Promise<{ readonly appraised: AppraisedEvidence; readonly granted: Grant }> {
  try {
    const appraised = await context.appraiser(evidence, nonce, now);
    if (appraised.claims.bundleId !== licence.bundleId)
      throw refusal('evidence-rejected', { reason: 'evidence-bundle' });
    const keys = context.keysOf(keyId(appraised.claims.ownerKey));
    if (keys === null) throw refusal('evidence-rejected', { reason: 'evidence-owner' });
    const { licenceId, budgetTokens, leaseTokens, topK, precision, temperature, expires } = licence;
    const limits = { licenceId, budgetTokens, leaseTokens, topK, precision, temperature, expires };
    const terms = { ...limits, notBefore: now - CLOCK_SLACK_S };
    return { appraised, granted: await grantLicence({ keys, evidence: appraised, terms }) };
  } catch (error) {
    if (!(error instanceof DistillockError) || error instanceof EnvironmentError) throw error;
    const reason = error.code === 'evidence-rejected' ? String(error.details.reason) : error.code;
    const details = { reason };
    await appendAudit(context.database, { time: now, event: 'grant-refused', subject: licence.licenceId, details });
    throw rejected(reason, error);
  }
}

function rejected(reason: string, cause: DistillockError): Error {
  const error = refusal('evidence-rejected', { reason });
  if (cause.code !== 'evidence-rejected') error.message = `the evidence was not accepted: ${cause.message}`;
  else
    error.message = `the evidence was not accepted: it is of another ${reason === 'evidence-owner' ? 'owner' : 'bundle'}`;
  return error;
}

/** False when the nonce was answered by a concurrent request. */
async function record(context: ServiceContext, grant: NewGrant): Promise<boolean> {
  const taken = new Error('the nonce is taken');
  try {
    await context.database.transaction(async (sql) => {
      const { nonceFree, newDevice, state, leaseTokens } = await recordGrant(sql, grant);
      if (!nonceFree) throw taken;
      refuseState(state);
      // Granted again, a device could put an old sealed state back and have the budget twice; with leases the service counts.
      if (!newDevice && leaseTokens === 0) throw refusal('licence-used');
    });
    return true;
  } catch (error) {
    if (error === taken) return false;
    if (violates(error, 'licence_devices')) throw refusal('devices-exhausted');
    throw error;
  }
}
