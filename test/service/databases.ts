// Runs a test on both databases: PGlite in a folder and a real PostgreSQL server, one per test file. Not a test itself.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { findPostgres, type PostgresServer, startPostgres } from '../../bench/workload/postgres.js';
import { type Database, openDatabase } from '../../src/owner/store/database.js';

export interface TestDatabase {
  readonly kind: 'PGlite' | 'PostgreSQL';
  /** For `openDatabase`, and for `--database`. */
  readonly location: string;
  /** Opened; closed when the test ends. */
  readonly database: Database;
}

const folders: string[] = [];
let server: Promise<PostgresServer> | null = null;
after(async () => {
  await (await server)?.stop();
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

/** A reason to skip what needs a server; false: it is there. Under CI a missing server is a failure. */
export function skipServer(): string | false {
  if (findPostgres() !== null || process.env.CI === 'true') return false;
  return 'PostgreSQL is not installed (Debian: apt-get install postgresql)';
}

/** URL of a new database on this file's server. */
export async function serverUrl(): Promise<string> {
  server ??= startPostgres({ durable: false });
  return (await server).createDatabase();
}

/** The server's data folder. */
export async function serverFolder(): Promise<string> {
  server ??= startPostgres({ durable: false });
  return (await server).folder;
}

/** A new folder; removed when the file's tests are over, and so after all that lies in it was closed. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'distillock-service-'));
  folders.push(path);
  return path;
}

async function opened(t: TestContext, kind: TestDatabase['kind'], location: string): Promise<TestDatabase> {
  const database = await openDatabase(location);
  t.after(() => database.close());
  return { kind, location, database };
}

/** `work` must close nothing it did not open. */
export function onBoth(name: string, work: (t: TestContext, database: TestDatabase) => Promise<void>): void {
  test(`${name} (PGlite)`, async (t) => work(t, await opened(t, 'PGlite', join(folder(), 'database'))));
  test(`${name} (PostgreSQL)`, { skip: skipServer() }, async (t) => {
    await work(t, await opened(t, 'PostgreSQL', await serverUrl()));
  });
}
