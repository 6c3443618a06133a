// The embedded database: PGlite (PostgreSQL compiled to WebAssembly) in a folder, for one process at a time. Zone: owner.
// It has one connection, so transactions run one after the other.
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PGlite, type Transaction } from '@electric-sql/pglite';
import { describeFileError } from '../../model/files.js';
import { lockRunFolder } from '../../model/run-lock.js';
import { DistillockError, EnvironmentError } from '../../trusted/wire/errors.js';
import { ATTEMPTS, type Database, isTransient, type Sql, type SqlValue } from './database.js';

/** Throws EnvironmentError('database-locked') while another process has the folder. */
export async function openEmbedded(folder: string): Promise<Database> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(folder, 0o700);
  } catch (error) {
    throw describeFileError(error, folder, 'write');
  }
  const release = await lockRunFolder(folder).catch((error: unknown) => {
    throw error instanceof DistillockError && error.code === 'run-locked' ? locked(folder, error) : error;
  });
  try {
    const engine = await PGlite.create({ dataDir: join(folder, 'pgdata') });
    return {
      kind: 'embedded',
      ...over(engine),
      async transaction(work) {
        for (let attempt = 1; ; attempt++) {
          try {
            return await engine.transaction((transaction) => work(over(transaction)));
          } catch (error) {
            if (!isTransient(error) || attempt === ATTEMPTS) throw error;
          }
        }
      },
      async close() {
        if (engine.closed) return;
        await engine.close();
        // Somebody may have removed the lock: then there is nothing to give back.
        await release().catch(() => undefined);
      },
    };
  } catch (cause) {
    await release();
    const message = `cannot open the database in ${folder}; restore it from a backup, or start with an empty folder`;
    throw new EnvironmentError('database-damaged', message, { folder }, cause);
  }
}

function over(engine: PGlite | Transaction): Sql {
  return {
    async query<Row extends object>(statement: string, values: readonly SqlValue[] = []): Promise<readonly Row[]> {
      return (await engine.query<Row>(statement, [...values])).rows;
    },
  };
}

function locked(folder: string, cause: DistillockError): EnvironmentError {
  const { pid, host } = cause.details;
  const who = pid === undefined ? 'another process' : `process ${pid} on ${host}`;
  const message = `${folder} is in use by ${who}; an embedded database serves one process (several: --database postgres://…)`;
  return new EnvironmentError('database-locked', message, { folder }, cause);
}
