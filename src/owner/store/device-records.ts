// What devices send after a grant: lease requests and receipts, as the database keeps them. Zone: owner.
import type { Sql } from './database.js';
import type { LicenceState } from './licence-records.js';

export interface DeviceRecord {
  readonly signingKey: Uint8Array;
  /** Key id of the owner key that the enclave obeys. */
  readonly ownerKeyId: string;
  readonly bundleId: string;
}

export async function findDevice(sql: Sql, enclaveKeyId: string): Promise<DeviceRecord | null> {
  const rows = await sql.query<{ signing_key: Uint8Array; owner_key_id: string; bundle_id: string }>(
    'SELECT signing_key, owner_key_id, bundle_id FROM devices WHERE enclave_key_id = $1',
    [enclaveKeyId],
  );
  const row = rows[0];
  if (row === undefined) return null;
  return { signingKey: row.signing_key, ownerKeyId: row.owner_key_id, bundleId: row.bundle_id };
}

export interface LeaseRecord {
  readonly nonce: string;
  readonly licenceId: string;
  readonly enclaveKeyId: string;
  readonly tokens: number;
}

export async function findLease(sql: Sql, nonce: string): Promise<LeaseRecord | null> {
  const rows = await sql.query<{ licence_id: string; enclave_key_id: string; tokens: number }>(
    'SELECT licence_id, enclave_key_id, tokens FROM leases WHERE nonce = $1',
    [nonce],
  );
  const row = rows[0];
  if (row === undefined) return null;
  return { nonce, licenceId: row.licence_id, enclaveKeyId: row.enclave_key_id, tokens: row.tokens };
}

/** `none`: the device never held the licence. Call with the licence's row locked. */
export async function seatState(
  sql: Sql,
  licenceId: string,
  enclaveKeyId: string,
): Promise<'open' | 'closed' | 'none'> {
  const rows = await sql.query<{ closed: number | null }>(
    'SELECT closed FROM seats WHERE licence_id = $1 AND enclave_key_id = $2',
    [licenceId, enclaveKeyId],
  );
  if (rows[0] === undefined) return 'none';
  return rows[0].closed === null ? 'open' : 'closed';
}

/** Debits the licence and keeps the lease; the CHECK `licence_budget` fails when it would exceed the budget. */
export async function recordLease(
  sql: Sql,
  lease: LeaseRecord & { readonly chargedTokens: number; readonly time: number; readonly auditDetails: string },
): Promise<void> {
  await sql.query(
    `WITH debited AS (
       UPDATE licences SET leased_tokens = leased_tokens + $4 WHERE licence_id = $2
     ), audited AS (
       INSERT INTO audit (time, event, subject, details) VALUES ($6, 'leased', $2, $7)
     )
     INSERT INTO leases (nonce, licence_id, enclave_key_id, tokens, charged_tokens, created)
     VALUES ($1, $2, $3, $4, $5, $6)`,
    [
      ...[lease.nonce, lease.licenceId, lease.enclaveKeyId, lease.tokens, lease.chargedTokens, lease.time],
      lease.auditDetails,
    ],
  );
}

/** False when this very receipt is kept already. */
export async function insertReceipt(
  sql: Sql,
  receipt: { readonly hash: Uint8Array; readonly enclaveKeyId: string; readonly jws: string; readonly time: number },
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO receipts (receipt_hash, enclave_key_id, jws, created) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING RETURNING created`,
    [receipt.hash, receipt.enclaveKeyId, receipt.jws, receipt.time],
  );
  return rows.length === 1;
}

/**
 * Closes one device's place in a licence, and the licence when no further device can hold it. `none`: the device never held it.
 * Call with the licence's row locked.
 */
export async function closeSeat(
  sql: Sql,
  seat: {
    readonly licenceId: string;
    readonly enclaveKeyId: string;
    readonly chargedTokens: number;
    readonly time: number;
  },
): Promise<LicenceState | 'none'> {
  const { licenceId, enclaveKeyId, chargedTokens, time } = seat;
  const closed = await sql.query(
    `UPDATE seats SET closed = coalesce(closed, $4), charged_tokens = $3
     WHERE licence_id = $1 AND enclave_key_id = $2 RETURNING closed`,
    [licenceId, enclaveKeyId, chargedTokens, time],
  );
  if (closed.length === 0) return 'none';
  const rows = await sql.query<{ state: LicenceState }>(
    `UPDATE licences SET state = CASE WHEN state = 'open' AND devices = max_devices AND NOT EXISTS
       (SELECT FROM seats WHERE licence_id = $1 AND closed IS NULL) THEN 'closed' ELSE state END
     WHERE licence_id = $1 RETURNING state`,
    [licenceId],
  );
  return rows[0]?.state ?? 'none';
}

export interface ReceiptRecord {
  readonly enclaveKeyId: string;
  readonly jws: string;
  readonly created: number;
}

/** Receipts of the devices that held a licence. */
export async function listReceipts(sql: Sql, licenceId: string): Promise<readonly ReceiptRecord[]> {
  const rows = await sql.query<{ enclave_key_id: string; jws: string; created: number }>(
    `SELECT receipts.enclave_key_id, jws, receipts.created FROM receipts
     JOIN seats USING (enclave_key_id) WHERE licence_id = $1 AND closed IS NOT NULL ORDER BY receipts.created`,
    [licenceId],
  );
  return rows.map((row) => ({ enclaveKeyId: row.enclave_key_id, jws: row.jws, created: row.created }));
}
