// Where the licence service keeps its state: one SQL dialect (PostgreSQL), embedded in a folder or on a server. Zone: owner.
// Everything else in store/ speaks through this small interface, so both behave alike.
import { DistillockError, EnvironmentError } from '../../trusted/wire/errors.js';

export type SqlValue = string | number | boolean | null | Uint8Array;

export interface Sql {
  /** One statement with $1, $2, … Whole numbers come back as numbers, bytea as bytes. */
  query<Row extends object>(statement: string, values?: readonly SqlValue[]): Promise<readonly Row[]>;
}

export interface Database extends Sql {
  readonly kind: 'embedded' | 'server';
  /**
   * All of `work` or nothing; what it throws is thrown on. A deadlock or a serialisation failure runs `work` again, so it must
   * touch nothing but the database.
   */
  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
  /** Calling it again does nothing. */
  close(): Promise<void>;
}

/**
 * `postgres://…` (one for a fleet) or a folder (embedded, one process). Brings the schema up to date.
 * Throws EnvironmentError('database-locked' | 'database-unavailable'), UnsupportedError('database-newer').
 */
export async function openDatabase(location: string): Promise<Database> {
  const { migrate } = await import('./migrations.js');
  const database = /^postgres(ql)?:\/\//.test(location)
    ? await (await import('./server.js')).openServer(location)
    : await (await import('./embedded.js')).openEmbedded(location);
  try {
    await migrate(database);
    return database;
  } catch (error) {
    await database.close();
    throw error instanceof DistillockError ? error : unavailable(error);
  }
}

/** SQLSTATE of an error that either engine throws; null for anything else. */
export function sqlState(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null;
}

/** Whether a CHECK of the schema, by name, said no. */
export function violates(error: unknown, constraint: string): boolean {
  return sqlState(error) === '23514' && (error as { readonly constraint?: unknown }).constraint === constraint;
}

/** Whether the same transaction may succeed when it is run again: serialisation failure, deadlock. */
export function isTransient(error: unknown): boolean {
  return ['40001', '40P01'].includes(sqlState(error) ?? '');
}

/** Times that a transaction is run when others get in its way. */
export const ATTEMPTS = 5;

/** The cause may name hosts and users, so it stays out of the message. */
export function unavailable(cause: unknown): EnvironmentError {
  return new EnvironmentError('database-unavailable', 'the database does not answer; try again later', {}, cause);
}
