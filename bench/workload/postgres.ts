// A PostgreSQL server of one's own, for tests and the licence bench: in a temporary folder, on a random port of this machine.
// Uses the programs of Debian's package `postgresql`; as root it runs them as the user `postgres`, as they demand.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { chown, mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { EnvironmentError } from '../../src/trusted/wire/errors.js';

const run = promisify(execFile);

export interface PostgresServer {
  /** Its data folder. */
  readonly folder: string;
  /** URL of a new, empty database. */
  createDatabase(): Promise<string>;
  stop(): Promise<void>;
}

/** The folder of initdb and postgres, newest version first; null: not installed. */
export function findPostgres(): string | null {
  const versions = '/usr/lib/postgresql';
  const installed = existsSync(versions) ? readdirSync(versions).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...installed.map((version) => join(versions, version, 'bin')),
    ...(process.env.PATH ?? '').split(':'),
  ];
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres'))) ?? null;
}

/** `durable` false leaves out fsync: quicker, and right wherever only clients are killed. */
export async function startPostgres(options: { readonly durable: boolean }): Promise<PostgresServer> {
  const bin = findPostgres();
  if (bin === null)
    throw new EnvironmentError('postgresql-missing', 'PostgreSQL is not installed (Debian: postgresql)');
  const user = await serverUser();
  const folder = await mkdtemp(join(user === null ? tmpdir() : await openToAll(), 'distillock-pg-'));
  if (user !== null) await chown(folder, user.uid, user.gid);
  const as = { cwd: folder, ...(user ?? {}) };
  const data = join(folder, 'data');
  await run(join(bin, 'initdb'), ['-D', data, '-U', 'distillock', '-A', 'trust', '-E', 'UTF8', '--no-sync'], as);
  const port = await freePort();
  const settings = [`fsync=${options.durable ? 'on' : 'off'}`, 'listen_addresses=127.0.0.1', 'max_connections=200'];
  const args = ['-D', data, '-p', String(port), '-k', folder, ...settings.flatMap((setting) => ['-c', setting])];
  const server = spawn(join(bin, 'postgres'), args, { ...as, stdio: 'ignore' });
  const url = (name: string): string => `postgres://distillock@127.0.0.1:${port}/${name}`;
  const stop = async (): Promise<void> => {
    await ended(server);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await untilReady(url('postgres'), server);
  } catch (error) {
    await stop();
    throw error;
  }
  let databases = 0;
  return {
    folder: data,
    async createDatabase() {
      databases += 1;
      await withClient(url('postgres'), (client) => client.query(`CREATE DATABASE licences${databases}`));
      return url(`licences${databases}`);
    },
    stop,
  };
}

/** The temporary folder, or the system's where root keeps its own to itself: the server's user must be able to walk there. */
async function openToAll(): Promise<string> {
  for (const base of [tmpdir(), '/tmp']) {
    let folder = base;
    while (((await stat(folder)).mode & 0o001) !== 0 && dirname(folder) !== folder) folder = dirname(folder);
    if (dirname(folder) === folder) return base;
  }
  return '/var/tmp';
}

/** Root may not run PostgreSQL. */
async function serverUser(): Promise<{ uid: number; gid: number } | null> {
  if (process.getuid?.() !== 0) return null;
  const [uid, gid] = await Promise.all(['-u', '-g'].map(async (flag) => (await run('id', [flag, 'postgres'])).stdout));
  return { uid: Number(uid), gid: Number(gid) };
}

async function ended(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exit = new Promise((resolve) => server.once('exit', resolve));
  // SIGINT: fast shutdown, sessions are cut off.
  server.kill('SIGINT');
  await exit;
}

async function untilReady(url: string, server: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (server.exitCode !== null) break;
    try {
      return await withClient(url, () => Promise.resolve());
    } catch {
      await delay(100);
    }
  }
  throw new EnvironmentError('postgresql-start', 'PostgreSQL did not start');
}

async function withClient(url: string, work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
