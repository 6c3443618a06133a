// Challenges and grants in the database: one statement to look up all that a grant request is about, one to record a grant. Zone: owner.
// A stored grant is sealed to the enclave's key, so the database holds no secret in the clear.
import type { Sql } from './database.js';
import { LICENCE_COLUMNS, type LicenceRecord, type LicenceRow, toLicence } from './licence-records.js';

/** False when no licence was ever issued for the bundle. */
export async function insertChallenge(
  sql: Sql,
  challenge: { readonly nonce: Uint8Array; readonly bundleId: string; readonly expires: number },
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO challenges (nonce, bundle_id, expires)
     SELECT $1::bytea, $2::text, $3::bigint WHERE EXISTS (SELECT FROM licences WHERE bundle_id = $2)
     RETURNING expires`,
    [challenge.nonce, challenge.bundleId, challenge.expires],
  );
  return rows.length === 1;
}

/** Those that ended before `time` and cannot be asked about any more: a used one is remembered by its grant. */
export async function deleteChallenges(sql: Sql, time: number): Promise<void> {
  await sql.query('DELETE FROM challenges WHERE expires < $1', [time]);
}

export interface StoredGrant {
  readonly evidenceHash: Uint8Array;
  readonly codeHash: Uint8Array;
  readonly sealed: Uint8Array;
  /** JSON of the terms. */
  readonly licence: string;
  readonly licenceState: LicenceRecord['state'];
}

export interface GrantSituation {
  readonly challenge: { readonly bundleId: string; readonly expires: number } | null;
  /** What this nonce was answered with before. */
  readonly grant: StoredGrant | null;
  /** The one that the activation code belongs to. */
  readonly licence: LicenceRecord | null;
}

interface SituationRow extends LicenceRow {
  readonly challenge_bundle_id: string | null;
  readonly challenge_expires: number;
  readonly evidence_hash: Uint8Array | null;
  readonly grant_code_hash: Uint8Array;
  readonly sealed: Uint8Array;
  readonly grant_licence: string;
  readonly grant_state: LicenceRecord['state'];
}

const licenceColumns = LICENCE_COLUMNS.map((column) => `licence.${column}`).join(', ');

export async function readSituation(sql: Sql, nonce: Uint8Array, codeHash: Uint8Array): Promise<GrantSituation> {
  const rows = await sql.query<SituationRow>(
    `SELECT challenge.bundle_id AS challenge_bundle_id, challenge.expires AS challenge_expires,
       earlier.evidence_hash, earlier.code_hash AS grant_code_hash, earlier.sealed, earlier.licence AS grant_licence,
       granted.state AS grant_state, ${licenceColumns}
     FROM (SELECT $1::bytea AS nonce) AS request
     LEFT JOIN challenges AS challenge ON challenge.nonce = request.nonce
     LEFT JOIN grants AS earlier ON earlier.nonce = request.nonce
     LEFT JOIN licences AS granted ON granted.licence_id = earlier.licence_id
     LEFT JOIN licences AS licence ON licence.code_hash = $2`,
    [nonce, codeHash],
  );
  const row = rows[0]!;
  const { evidence_hash: evidenceHash } = row;
  return {
    challenge:
      row.challenge_bundle_id === null ? null : { bundleId: row.challenge_bundle_id, expires: row.challenge_expires },
    grant:
      evidenceHash === null
        ? null
        : {
            evidenceHash,
            codeHash: row.grant_code_hash,
            sealed: row.sealed,
            licence: row.grant_licence,
            licenceState: row.grant_state,
          },
    licence: row.licence_id === null ? null : toLicence(row),
  };
}

export interface NewGrant {
  readonly nonce: Uint8Array;
  readonly licenceId: string;
  readonly evidenceHash: Uint8Array;
  readonly codeHash: Uint8Array;
  readonly sealed: Uint8Array;
  readonly licence: string;
  readonly platform: string;
  readonly device: {
    readonly enclaveKeyId: string;
    readonly signingKey: Uint8Array;
    readonly ownerKeyId: string;
    readonly bundleId: string;
  };
  readonly time: number;
  /** JSON for the audit log. */
  readonly auditDetails: string;
}

export interface RecordedGrant {
  /** False: the nonce has been answered by somebody else meanwhile. */
  readonly nonceFree: boolean;
  /** The device did not hold the licence before. */
  readonly newDevice: boolean;
  readonly state: LicenceRecord['state'];
  readonly leaseTokens: number;
}

/**
 * Writes everything in one statement; the caller looks at the outcome and rolls back what must not be. The CHECK `licence_devices`
 * fails when there are too many devices. Concurrent grants of a licence wait for one another at its row.
 */
export async function recordGrant(sql: Sql, grant: NewGrant): Promise<RecordedGrant> {
  const { device } = grant;
  const rows = await sql.query<{ free: number; fresh: number; state: LicenceRecord['state']; lease_tokens: number }>(
    `WITH device AS (
       INSERT INTO devices (enclave_key_id, signing_key, owner_key_id, bundle_id, platform, first_seen, last_seen)
       VALUES ($1, $2, $3, $4, $5, $6, $6)
       ON CONFLICT (enclave_key_id) DO UPDATE SET platform = excluded.platform, last_seen = excluded.last_seen
     ), seat AS (
       INSERT INTO seats (licence_id, enclave_key_id) VALUES ($7, $1) ON CONFLICT DO NOTHING RETURNING 1
     ), licence AS (
       UPDATE licences SET devices = devices + (SELECT count(*)::integer FROM seat) WHERE licence_id = $7
       RETURNING state, lease_tokens
     ), answered AS (
       INSERT INTO grants
         (nonce, licence_id, enclave_key_id, evidence_hash, code_hash, sealed, licence, platform, created)
       VALUES ($8, $7, $1, $9, $10, $11, $12, $5, $6) ON CONFLICT (nonce) DO NOTHING RETURNING 1
     ), audited AS (
       INSERT INTO audit (time, event, subject, details) VALUES ($6, 'granted', $7, $13)
     )
     SELECT (SELECT count(*)::integer FROM answered) AS free, (SELECT count(*)::integer FROM seat) AS fresh,
       state, lease_tokens FROM licence`,
    [
      ...[device.enclaveKeyId, device.signingKey, device.ownerKeyId, device.bundleId, grant.platform, grant.time],
      ...[grant.licenceId, grant.nonce, grant.evidenceHash, grant.codeHash, grant.sealed, grant.licence],
      grant.auditDetails,
    ],
  );
  const { free, fresh, state, lease_tokens: leaseTokens } = rows[0]!;
  return { nonceFree: free === 1, newDevice: fresh === 1, state, leaseTokens };
}
