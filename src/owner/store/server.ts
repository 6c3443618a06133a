// A PostgreSQL server: for a fleet of service processes, and for owners who have one. Zone: owner.
// The URL's password never reaches a message; connections are pooled and taken one per transaction.
import pg from 'pg';
import { MalformedError } from '../../trusted/wire/errors.js';
import { ATTEMPTS, type Database, isTransient, type Sql, type SqlValue, sqlState, unavailable } from './database.js';

const POOL_SIZE = 10;
const CONNECT_TIMEOUT_MS = 5_000;
/** A statement that takes longer is in trouble; it fails and its transaction with it. */
const STATEMENT_TIMEOUT_MS = 10_000;

/** int8 (OID 20) as a number: amounts, times and positions all stay below 2^53. */
function parserOf(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
  return oid === 20 ? Number : pg.types.getTypeParser(oid, format as 'text');
}

/** Throws MalformedError('database-url'), EnvironmentError('database-unavailable'). */
export async function openServer(url: string): Promise<Database> {
  if (!URL.canParse(url))
    throw new MalformedError('database-url', 'the database URL is malformed; give postgres://user@host/name');
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL_SIZE,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    application_name: 'distillock',
    types: { getTypeParser: parserOf as typeof pg.types.getTypeParser },
  });
  // Idle connections break when the server restarts; the next query opens another one.
  pool.on('error', () => undefined);
  const database: Database = {
    kind: 'server',
    ...over(pool),
    transaction: (work) => transact(pool, work),
    close: async () => {
      if (!pool.ended) await pool.end();
    },
  };
  try {
    await database.query('SELECT 1');
  } catch (error) {
    await pool.end();
    throw error;
  }
  return database;
}

async function transact<T>(pool: pg.Pool, work: (sql: Sql) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const client = await pool.connect().catch((error: unknown) => {
      throw unavailable(error);
    });
    let broken: Error | undefined;
    try {
      await client.query('BEGIN');
      const result = await work(over(client));
      await client.query('COMMIT');
      return result;
    } catch (error) {
      // A connection that cannot even roll back is thrown away.
      await client.query('ROLLBACK').catch((cause: Error) => {
        broken = cause;
      });
      if (!isTransient(error) || attempt === ATTEMPTS) throw described(error);
    } finally {
      client.release(broken);
    }
  }
}

function over(client: pg.Pool | pg.PoolClient): Sql {
  return {
    async query<Row extends object>(text: string, values: readonly SqlValue[] = []): Promise<readonly Row[]> {
      try {
        return (await client.query<Row>({ text, values: [...values] })).rows;
      } catch (error) {
        throw described(error);
      }
    },
  };
}

/** Errors of the connection, and of a server that is going down (57P0x) or full (53xxx), mean the same to a caller. */
function described(error: unknown): unknown {
  if (!(error instanceof Error) || 'kind' in error) return error;
  const state = sqlState(error);
  const system = 'code' in error && typeof error.code === 'string' && /^E[A-Z]+$/.test(error.code);
  const lost = state === null ? system || /timeout|terminated|ended/i.test(error.message) : /^(57P|53|08)/.test(state);
  return lost ? unavailable(error) : error;
}
