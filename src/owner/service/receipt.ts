// A receipt of destruction: verified with the device's attested key, kept, and its licences closed. Zone: owner.
import { createHash } from 'node:crypto';
import { verifyReceipt } from '../../attest/receipt.js';
import { encodeUtf8 } from '../../trusted/wire/bytes.js';
import { appendAudit } from '../store/audit.js';
import { closeSeat, findDevice, insertReceipt } from '../store/device-records.js';
import { type LicenceState, lockLicence } from '../store/licence-records.js';
import { refusal } from './refusals.js';
import type { ServiceContext } from './service.js';
import { claimedEnclave } from './unverified.js';

export interface ClosedLicence {
  readonly licenceId: string;
  /** `open`: other devices may still use it. `unknown`: this service did not grant it to this device. */
  readonly state: LicenceState | 'unknown';
}

/** Sent twice it answers the same. Throws MalformedError, VerificationError('signature'), 'device-unknown'. */
export async function keepReceipt(context: ServiceContext, jws: string): Promise<readonly ClosedLicence[]> {
  const { database } = context;
  const enclaveKeyId = claimedEnclave('receipt', jws);
  const device = await findDevice(database, enclaveKeyId);
  if (device === null) throw refusal('device-unknown');
  const receipt = verifyReceipt(encodeUtf8(jws), device.signingKey);
  const hash = new Uint8Array(createHash('sha256').update(jws).digest());
  const time = context.now();
  return database.transaction(async (sql) => {
    const isNew = await insertReceipt(sql, { hash, enclaveKeyId, jws, time });
    const closed: ClosedLicence[] = [];
    for (const { licenceId, chargedTokens } of receipt.licences) {
      const before = await lockLicence(sql, licenceId);
      const state = before === null ? 'none' : await closeSeat(sql, { licenceId, enclaveKeyId, chargedTokens, time });
      closed.push({ licenceId, state: state === 'none' ? 'unknown' : state });
      if (!isNew || before === null || state === 'none') continue;
      const details = { enclaveKeyId, chargedTokens, reason: receipt.reason };
      await appendAudit(sql, { time, event: 'receipt', subject: licenceId, details });
      if (state === 'closed' && before.state === 'open')
        await appendAudit(sql, { time, event: 'licence-closed', subject: licenceId, details: {} });
    }
    return closed;
  });
}
