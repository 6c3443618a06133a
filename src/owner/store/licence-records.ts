// Licences as the database keeps them: terms, activation code (hash only), counters, state. Zone: owner.
import type { Licence } from '../../trusted/wire/licence.js';
import type { Sql } from './database.js';

export type LicenceState = 'open' | 'revoked' | 'closed';

export interface LicenceRecord {
  readonly licenceId: string;
  readonly bundleId: string;
  /** The owner's own words: who it is for. */
  readonly label: string;
  /** In total, whatever the number of devices. */
  readonly budgetTokens: number;
  readonly leaseTokens: number;
  readonly topK: number;
  readonly precision: Licence['precision'];
  readonly temperature: { readonly min: number; readonly max: number };
  /** Unix seconds. */
  readonly expires: number;
  readonly created: number;
  readonly maxDevices: number;
  /** Devices that hold it. */
  readonly devices: number;
  readonly leasedTokens: number;
  readonly state: LicenceState;
}

export type NewLicence = Omit<LicenceRecord, 'devices' | 'leasedTokens' | 'state'>;

export interface LicenceRow {
  readonly licence_id: string;
  readonly bundle_id: string;
  readonly label: string;
  readonly budget_tokens: number;
  readonly lease_tokens: number;
  readonly top_k: number;
  readonly precision: Licence['precision'];
  readonly min_temperature: number;
  readonly max_temperature: number;
  readonly expires: number;
  readonly max_devices: number;
  readonly devices: number;
  readonly leased_tokens: number;
  readonly state: LicenceState;
  readonly created: number;
}

/** For `SELECT`; everything but the activation code's hash. */
export const LICENCE_COLUMNS: readonly string[] =
  'licence_id bundle_id label budget_tokens lease_tokens top_k precision min_temperature max_temperature expires max_devices devices leased_tokens state created'.split(
    ' ',
  );

export function toLicence(row: LicenceRow): LicenceRecord {
  return {
    licenceId: row.licence_id,
    bundleId: row.bundle_id,
    label: row.label,
    budgetTokens: row.budget_tokens,
    leaseTokens: row.lease_tokens,
    topK: row.top_k,
    precision: row.precision,
    temperature: { min: row.min_temperature, max: row.max_temperature },
    expires: row.expires,
    created: row.created,
    maxDevices: row.max_devices,
    devices: row.devices,
    leasedTokens: row.leased_tokens,
    state: row.state,
  };
}

export async function insertLicence(sql: Sql, licence: NewLicence, codeHash: Uint8Array): Promise<void> {
  const { licenceId, bundleId, label, budgetTokens, leaseTokens, topK, precision, temperature } = licence;
  await sql.query(
    `INSERT INTO licences (licence_id, bundle_id, code_hash, label, budget_tokens, lease_tokens, top_k, precision,
       min_temperature, max_temperature, expires, max_devices, created)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
    [
      ...[licenceId, bundleId, codeHash, label, budgetTokens, leaseTokens, topK, precision],
      ...[temperature.min, temperature.max, licence.expires, licence.maxDevices, licence.created],
    ],
  );
}

/** Newest first. */
export async function listLicences(sql: Sql): Promise<readonly LicenceRecord[]> {
  const columns = LICENCE_COLUMNS.join(', ');
  const rows = await sql.query<LicenceRow>(`SELECT ${columns} FROM licences ORDER BY created DESC, licence_id`);
  return rows.map(toLicence);
}

export async function findLicence(sql: Sql, licenceId: string): Promise<LicenceRecord | null> {
  const columns = LICENCE_COLUMNS.join(', ');
  const rows = await sql.query<LicenceRow>(`SELECT ${columns} FROM licences WHERE licence_id = $1`, [licenceId]);
  return rows[0] === undefined ? null : toLicence(rows[0]);
}

/** The same, and nobody else changes it until the transaction ends. */
export async function lockLicence(sql: Sql, licenceId: string): Promise<LicenceRecord | null> {
  const columns = LICENCE_COLUMNS.join(', ');
  const statement = `SELECT ${columns} FROM licences WHERE licence_id = $1 FOR UPDATE`;
  const rows = await sql.query<LicenceRow>(statement, [licenceId]);
  return rows[0] === undefined ? null : toLicence(rows[0]);
}

/** A device that holds a licence. */
export interface SeatRecord {
  readonly enclaveKeyId: string;
  /** What the evidence of the last grant proved: JSON of the platform's facts. */
  readonly platform: string;
  readonly firstSeen: number;
  /** When the device's receipt closed it; null: it has not. */
  readonly closed: number | null;
  /** By the device's receipt; null before. */
  readonly chargedTokens: number | null;
}

interface SeatRow {
  readonly enclave_key_id: string;
  readonly platform: string;
  readonly first_seen: number;
  readonly closed: number | null;
  readonly charged_tokens: number | null;
}

export async function listSeats(sql: Sql, licenceId: string): Promise<readonly SeatRecord[]> {
  const rows = await sql.query<SeatRow>(
    `SELECT enclave_key_id, platform, first_seen, closed, charged_tokens
     FROM seats JOIN devices USING (enclave_key_id) WHERE licence_id = $1 ORDER BY first_seen, enclave_key_id`,
    [licenceId],
  );
  return rows.map((row) => {
    return {
      enclaveKeyId: row.enclave_key_id,
      platform: row.platform,
      firstSeen: row.first_seen,
      closed: row.closed,
      chargedTokens: row.charged_tokens,
    };
  });
}
