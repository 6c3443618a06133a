// The schema of the licence service, as numbered steps: a database remembers how far it is, and never goes back. Zone: owner.
// Invariants stand in the schema too (devices, budget, append-only audit), so no code path can break them.
import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { Database } from './database.js';

/** Times are Unix seconds of the service's clock. */
const FIRST = [
  `CREATE TABLE licences (
    licence_id text PRIMARY KEY,
    bundle_id text NOT NULL,
    code_hash bytea NOT NULL UNIQUE,
    label text NOT NULL,
    budget_tokens bigint NOT NULL CHECK (budget_tokens > 0),
    lease_tokens bigint NOT NULL CHECK (lease_tokens >= 0),
    top_k integer NOT NULL,
    precision text NOT NULL,
    min_temperature double precision NOT NULL,
    max_temperature double precision NOT NULL,
    expires bigint NOT NULL,
    max_devices integer NOT NULL CHECK (max_devices > 0),
    devices integer NOT NULL DEFAULT 0,
    leased_tokens bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'revoked', 'closed')),
    created bigint NOT NULL,
    CONSTRAINT licence_devices CHECK (devices <= max_devices),
    CONSTRAINT licence_budget CHECK (leased_tokens <= budget_tokens),
    CONSTRAINT licence_shared CHECK (max_devices = 1 OR lease_tokens > 0)
  )`,
  'CREATE INDEX licences_bundle ON licences (bundle_id)',
  `CREATE TABLE challenges (
    nonce bytea PRIMARY KEY,
    bundle_id text NOT NULL,
    expires bigint NOT NULL
  )`,
  'CREATE INDEX challenges_expires ON challenges (expires)',
  `CREATE TABLE devices (
    enclave_key_id text PRIMARY KEY,
    signing_key bytea NOT NULL,
    owner_key_id text NOT NULL,
    bundle_id text NOT NULL,
    platform text NOT NULL,
    first_seen bigint NOT NULL,
    last_seen bigint NOT NULL
  )`,
  // A device's place in a licence.
  `CREATE TABLE seats (
    licence_id text NOT NULL REFERENCES licences,
    enclave_key_id text NOT NULL REFERENCES devices,
    closed bigint,
    charged_tokens bigint,
    PRIMARY KEY (licence_id, enclave_key_id)
  )`,
  'CREATE INDEX seats_device ON seats (enclave_key_id)',
  // The primary key is what makes one nonce give one grant.
  `CREATE TABLE grants (
    nonce bytea PRIMARY KEY,
    licence_id text NOT NULL REFERENCES licences,
    enclave_key_id text NOT NULL REFERENCES devices,
    evidence_hash bytea NOT NULL,
    code_hash bytea NOT NULL,
    sealed bytea NOT NULL,
    licence text NOT NULL,
    platform text NOT NULL,
    created bigint NOT NULL
  )`,
  'CREATE INDEX grants_licence ON grants (licence_id)',
  `CREATE TABLE leases (
    nonce text PRIMARY KEY,
    licence_id text NOT NULL,
    enclave_key_id text NOT NULL,
    tokens bigint NOT NULL CHECK (tokens > 0),
    charged_tokens bigint NOT NULL,
    created bigint NOT NULL,
    FOREIGN KEY (licence_id, enclave_key_id) REFERENCES seats
  )`,
  'CREATE INDEX leases_licence ON leases (licence_id)',
  `CREATE TABLE receipts (
    receipt_hash bytea PRIMARY KEY,
    enclave_key_id text NOT NULL REFERENCES devices,
    jws text NOT NULL,
    created bigint NOT NULL
  )`,
  `CREATE TABLE revocations (
    licence_id text PRIMARY KEY REFERENCES licences,
    reason text NOT NULL,
    created bigint NOT NULL
  )`,
  `CREATE TABLE audit (
    entry_id bigserial PRIMARY KEY,
    time bigint NOT NULL,
    event text NOT NULL,
    subject text NOT NULL,
    details text NOT NULL,
    position bigint UNIQUE,
    hash bytea
  )`,
  'CREATE INDEX audit_unlinked ON audit (entry_id) WHERE hash IS NULL',
  'CREATE INDEX audit_subject ON audit (subject)',
  // The only change an entry may see is to get its place in the chain, once.
  `CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'UPDATE' AND OLD.hash IS NULL
      AND (NEW.entry_id, NEW.time, NEW.event, NEW.subject, NEW.details)
        = (OLD.entry_id, OLD.time, OLD.event, OLD.subject, OLD.details) THEN
      RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only';
  END $$`,
  `CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_append_only()`,
  `CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()`,
] as const;

/** Append, never edit: databases out there have run the earlier ones. */
const MIGRATIONS: readonly (readonly string[])[] = [FIRST];

/** Any number that nothing else on the server uses. */
export const ADVISORY_LOCKS = { migrate: 0x64_69_73_01, audit: 0x64_69_73_02 } as const;

/** Throws UnsupportedError('database-newer') when a later version of distillock has used the database. */
export async function migrate(database: Database): Promise<void> {
  await database.transaction(async (sql) => {
    await sql.query(`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.migrate})`);
    await sql.query('CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)');
    const version = (await sql.query<{ version: number }>('SELECT version FROM schema_version'))[0]?.version;
    if ((version ?? 0) > MIGRATIONS.length) {
      const message = `the database has schema ${version}, this distillock knows ${MIGRATIONS.length}; use the newer one`;
      throw new UnsupportedError('database-newer', message, { version: version ?? 0 });
    }
    for (const step of MIGRATIONS.slice(version ?? 0)) for (const statement of step) await sql.query(statement);
    if (version === MIGRATIONS.length) return;
    if (version === undefined) await sql.query('INSERT INTO schema_version VALUES ($1)', [MIGRATIONS.length]);
    else await sql.query('UPDATE schema_version SET version = $1', [MIGRATIONS.length]);
  });
}
