// The owner's side of the service: issue, list, show and revoke licences. Each change leaves an entry in the audit log. Zone: owner.
import { randomUUID } from 'node:crypto';
import { MalformedError, PolicyError } from '../../trusted/wire/errors.js';
import { encodeLicence } from '../encode-grant.js';
import { type AuditEntry, appendAudit, readAudit } from '../store/audit.js';
import type { Database } from '../store/database.js';
import { listReceipts, type ReceiptRecord } from '../store/device-records.js';
import {
  findLicence,
  insertLicence,
  type LicenceRecord,
  listSeats,
  lockLicence,
  type NewLicence,
  type SeatRecord,
} from '../store/licence-records.js';
import { createActivationCode, hashActivationCode } from './activation-code.js';

export type LicenceOrder = Omit<NewLicence, 'licenceId' | 'created'>;

export interface IssuedLicence {
  readonly licence: LicenceRecord;
  /** Shown once: the database keeps its hash. */
  readonly activationCode: string;
}

const LONGEST_TEXT = 200;

/**
 * Throws MalformedError for terms out of range, PolicyError('licence-shared') for several devices without leases: each of them
 * could use up the whole budget, and nobody would notice.
 */
export async function issueLicence(database: Database, order: LicenceOrder, now: number): Promise<IssuedLicence> {
  const licence: NewLicence = { ...order, licenceId: randomUUID(), created: now };
  checkTerms(licence);
  const activationCode = createActivationCode();
  await database.transaction(async (sql) => {
    await insertLicence(sql, licence, hashActivationCode(activationCode));
    const { bundleId, label, budgetTokens, leaseTokens, maxDevices, expires } = licence;
    const details = { bundleId, label, budgetTokens, leaseTokens, maxDevices, expires };
    await appendAudit(sql, { time: now, event: 'licence-issued', subject: licence.licenceId, details });
  });
  return { licence: { ...licence, devices: 0, leasedTokens: 0, state: 'open' }, activationCode };
}

function checkTerms(licence: NewLicence): void {
  const { licenceId, bundleId, budgetTokens, leaseTokens, topK, precision, temperature, expires, created } = licence;
  const terms = { licenceId, bundleId, budgetTokens, leaseTokens, topK, precision, temperature, expires };
  // The enclave's own reader decides what terms are possible.
  encodeLicence({ ...terms, notBefore: created, enclaveKeyId: 'A'.repeat(43) });
  if (licence.label.length > LONGEST_TEXT)
    throw new MalformedError('licence', `a label has ${LONGEST_TEXT} characters at most`);
  if (!Number.isSafeInteger(licence.maxDevices) || licence.maxDevices < 1 || licence.maxDevices > 1e6)
    throw new MalformedError('licence', 'maxDevices is a whole number from 1 to 1,000,000');
  if (licence.maxDevices > 1 && leaseTokens === 0) {
    const message =
      'a licence for several devices needs leases, which keep them within one budget; give lease tokens, or issue one licence per device';
    throw new PolicyError('licence-shared', message);
  }
}

export interface LicenceHistory {
  readonly licence: LicenceRecord;
  readonly seats: readonly SeatRecord[];
  readonly receipts: readonly ReceiptRecord[];
  readonly audit: readonly AuditEntry[];
}

/** Throws MalformedError('licence-unknown'). */
export async function showLicence(database: Database, licenceId: string): Promise<LicenceHistory> {
  const licence = (await findLicence(database, licenceId)) ?? unknown(licenceId);
  const seats = await listSeats(database, licenceId);
  const receipts = await listReceipts(database, licenceId);
  return { licence, seats, receipts, audit: await readAudit(database, licenceId) };
}

/**
 * No grant and no lease after this. An enclave that is unlocked and needs no leases goes on to its budget or expiry: nothing can
 * reach it. Revoking twice changes nothing. Throws MalformedError('licence-unknown').
 */
export async function revokeLicence(
  database: Database,
  licenceId: string,
  reason: string,
  now: number,
): Promise<LicenceRecord> {
  if (reason.length > LONGEST_TEXT)
    throw new MalformedError('licence', `a reason has ${LONGEST_TEXT} characters at most`);
  return database.transaction(async (sql) => {
    const licence = (await lockLicence(sql, licenceId)) ?? unknown(licenceId);
    if (licence.state === 'revoked') return licence;
    await sql.query("UPDATE licences SET state = 'revoked' WHERE licence_id = $1", [licenceId]);
    await sql.query('INSERT INTO revocations (licence_id, reason, created) VALUES ($1, $2, $3)', [
      licenceId,
      reason,
      now,
    ]);
    await appendAudit(sql, { time: now, event: 'licence-revoked', subject: licenceId, details: { reason } });
    return { ...licence, state: 'revoked' };
  });
}

function unknown(licenceId: string): never {
  throw new MalformedError('licence-unknown', `there is no licence ${licenceId}; see distillock licence list`, {
    licenceId,
  });
}
