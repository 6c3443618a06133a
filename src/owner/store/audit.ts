// The audit log: an entry is written in the transaction it tells about; a hash chain over all entries is laid afterwards. Zone: owner.
// Chaining inside the transaction would make every grant of a fleet wait for the one before it; so entries are linked in batches.
import { createHash } from 'node:crypto';
import { encodeHex } from '../../trusted/wire/bytes.js';
import { encodeCanonicalJson } from '../../trusted/wire/canonical-json.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import type { Database, Sql } from './database.js';
import { ADVISORY_LOCKS } from './migrations.js';

export type AuditEvent =
  | 'licence-issued'
  | 'licence-revoked'
  | 'licence-closed'
  | 'granted'
  | 'grant-refused'
  | 'leased'
  | 'receipt';

export interface AuditEntry {
  readonly time: number;
  readonly event: AuditEvent;
  /** The licence's id. */
  readonly subject: string;
  /** What a reader needs to know; never a secret. */
  readonly details: Readonly<Record<string, string | number>>;
}

interface Stored {
  readonly entry_id: number;
  readonly time: number;
  readonly event: AuditEvent;
  readonly subject: string;
  readonly details: string;
}

interface Linked extends Stored {
  readonly position: number;
  readonly hash: Uint8Array;
}

export interface AuditHead {
  /** Entries in the chain. */
  readonly position: number;
  /** Hex SHA-256. Who notes it down elsewhere can tell later whether the log was rewritten. */
  readonly hash: string;
}

const BATCH = 500;
const START = new Uint8Array(32);

/** Inside another statement: `WITH …, audited AS (INSERT INTO audit …)`. */
export async function appendAudit(sql: Sql, entry: AuditEntry): Promise<void> {
  const { time, event, subject, details } = entry;
  const values = [time, event, subject, JSON.stringify(details)];
  await sql.query('INSERT INTO audit (time, event, subject, details) VALUES ($1, $2, $3, $4)', values);
}

/** SHA-256 over the hash before and the entry's canonical JSON. */
function linkHash(before: Uint8Array, position: number, entry: Stored): Uint8Array {
  const { entry_id: entryId, time, event, subject, details } = entry;
  const text = encodeCanonicalJson({ position, entryId, time, event, subject, details });
  return createHash('sha256').update(before).update(text).digest();
}

async function headOf(sql: Sql): Promise<{ readonly position: number; readonly hash: Uint8Array }> {
  const rows = await sql.query<{ position: number; hash: Uint8Array }>(
    'SELECT position, hash FROM audit WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1',
  );
  return rows[0] ?? { position: 0, hash: START };
}

/** Links what is not linked yet, whichever process wrote it; gives the chain's head. */
export async function linkAudit(database: Database): Promise<AuditHead> {
  for (;;) {
    const { linked, head } = await database.transaction(async (sql) => {
      await sql.query(`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.audit})`);
      let { position, hash } = await headOf(sql);
      const entries = await sql.query<Stored>(
        'SELECT entry_id, time, event, subject, details FROM audit WHERE hash IS NULL ORDER BY entry_id LIMIT $1',
        [BATCH],
      );
      const links = entries.map((entry) => {
        position += 1;
        hash = linkHash(hash, position, entry);
        return { entry_id: entry.entry_id, position, hash: encodeHex(hash) };
      });
      if (links.length > 0)
        await sql.query(
          `UPDATE audit SET position = link.position, hash = decode(link.hash, 'hex')
           FROM json_to_recordset($1::json) AS link(entry_id bigint, position bigint, hash text)
           WHERE audit.entry_id = link.entry_id`,
          [JSON.stringify(links)],
        );
      return { linked: links.length, head: { position, hash: encodeHex(hash) } };
    });
    if (linked < BATCH) return head;
  }
}

/**
 * Recomputes the chain. Throws VerificationError('audit-chain') naming the first position that does not hold: an entry altered,
 * removed or inserted. A rewritten chain or one cut at its end is found only by comparing the head with a noted one.
 */
export async function verifyAudit(sql: Sql): Promise<AuditHead> {
  let hash: Uint8Array = START;
  let position = 0;
  for (;;) {
    const rows = await sql.query<Linked>(
      `SELECT entry_id, time, event, subject, details, position, hash FROM audit
       WHERE position > $1 ORDER BY position LIMIT $2`,
      [position, BATCH],
    );
    for (const row of rows) {
      position += 1;
      hash = linkHash(hash, position, row);
      if (row.position !== position || encodeHex(row.hash) !== encodeHex(hash)) {
        const message = `the audit log was altered at or before entry ${position}: its hash does not follow from the one before`;
        throw new VerificationError('audit-chain', message, { position });
      }
    }
    if (rows.length < BATCH) return { position, hash: encodeHex(hash) };
  }
}

/** Entries about one licence, oldest first; null: of all. */
export async function readAudit(sql: Sql, subject: string | null): Promise<readonly AuditEntry[]> {
  const rows = await sql.query<Stored>(
    `SELECT entry_id, time, event, subject, details FROM audit
     WHERE $1::text IS NULL OR subject = $1 ORDER BY entry_id`,
    [subject],
  );
  return rows.map(({ time, event, subject: about, details }) => {
    return { time, event, subject: about, details: JSON.parse(details) as AuditEntry['details'] };
  });
}
