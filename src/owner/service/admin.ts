// What an owner does with licences, wherever the database is: here, or in a running service that has its folder locked. Zone: owner.
import { type AuditEntry, type AuditHead, linkAudit, readAudit, verifyAudit } from '../store/audit.js';
import type { Database } from '../store/database.js';
import { type LicenceRecord, listLicences } from '../store/licence-records.js';
import {
  type IssuedLicence,
  issueLicence,
  type LicenceHistory,
  type LicenceOrder,
  revokeLicence,
  showLicence,
} from './licences.js';

export interface LicenceAdmin {
  issue(order: LicenceOrder): Promise<IssuedLicence>;
  list(): Promise<readonly LicenceRecord[]>;
  show(licenceId: string): Promise<LicenceHistory>;
  revoke(licenceId: string, reason: string): Promise<LicenceRecord>;
  /** The whole log, after its chain was linked and checked. Throws VerificationError('audit-chain'). */
  audit(): Promise<{ readonly head: AuditHead; readonly entries: readonly AuditEntry[] }>;
}

export const ADMIN_CALLS: readonly (keyof LicenceAdmin)[] = ['issue', 'list', 'show', 'revoke', 'audit'];

export function createAdmin(database: Database, now: () => number = () => Math.floor(Date.now() / 1000)): LicenceAdmin {
  return {
    issue: (order) => issueLicence(database, order, now()),
    list: () => listLicences(database),
    show: (licenceId) => showLicence(database, licenceId),
    revoke: (licenceId, reason) => revokeLicence(database, licenceId, reason, now()),
    async audit() {
      await linkAudit(database);
      return { head: await verifyAudit(database), entries: await readAudit(database, null) };
    },
  };
}
