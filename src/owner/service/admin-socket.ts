// An embedded database belongs to one process. While that is a running service, the owner's verbs reach it through a Unix socket
// in the database's folder, which only the folder's user can enter. Zone: owner.
import { existsSync } from 'node:fs';
import { chmod, rm } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import { join } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import * as errors from '../../trusted/wire/errors.js';
import { openDatabase } from '../store/database.js';
import { ADMIN_CALLS, createAdmin, type LicenceAdmin } from './admin.js';

const SOCKET = 'admin.sock';
/** The operating system's limit is 108 on Linux, 104 elsewhere. */
const LONGEST_PATH = 100;

/** Serves `admin` for other processes of the same user. Gives how to stop; null where the path is too long for a socket. */
export async function serveAdmin(folder: string, admin: LicenceAdmin): Promise<(() => Promise<void>) | null> {
  const path = join(folder, SOCKET);
  if (path.length > LONGEST_PATH || process.platform === 'win32') return null;
  const app = new Hono();
  app.post('/:call', async (context) => {
    const call = ADMIN_CALLS.find((name) => name === context.req.param('call'));
    if (call === undefined) return context.notFound();
    const values = (await context.req.json()) as never[];
    try {
      return context.json({ result: await (admin[call] as (...values: never[]) => Promise<object>)(...values) });
    } catch (error) {
      if (!(error instanceof errors.DistillockError)) throw error;
      const { kind, code, message, details } = error;
      return context.json({ error: { kind, code, message, details } });
    }
  });
  // A killed service leaves its socket; the folder's lock says that nobody else is using it.
  await rm(path, { force: true });
  const server = createAdaptorServer({ fetch: app.fetch, createServer }) as Server;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  await chmod(path, 0o600);
  return () => new Promise((resolve) => server.close(() => resolve()));
}

/** The database opened here; when a running service has it, that service's admin. Throws what `openDatabase` throws. */
export async function openAdmin(location: string): Promise<{ readonly admin: LicenceAdmin; close(): Promise<void> }> {
  try {
    const database = await openDatabase(location);
    return { admin: createAdmin(database), close: () => database.close() };
  } catch (error) {
    const path = join(location, SOCKET);
    const locked = error instanceof errors.DistillockError && error.code === 'database-locked';
    if (!locked || !existsSync(path)) throw error;
    return { admin: remoteAdmin(path, error), close: async () => undefined };
  }
}

function remoteAdmin(socketPath: string, locked: unknown): LicenceAdmin {
  const call =
    <T>(name: keyof LicenceAdmin) =>
    (...values: readonly unknown[]): Promise<T> =>
      new Promise((resolve, reject) => {
        const sent = request({ socketPath, path: `/${name}`, method: 'POST' }, (reply) => {
          const chunks: Buffer[] = [];
          reply.on('data', (chunk: Buffer) => chunks.push(chunk));
          reply.on('error', reject);
          reply.on('end', () => {
            try {
              resolve(readReply<T>(Buffer.concat(chunks).toString('utf8')));
            } catch (error) {
              reject(error);
            }
          });
        });
        // A socket that nobody answers is left from a service that was killed: another process has the folder.
        sent.on('error', () => reject(locked));
        sent.end(JSON.stringify(values));
      });
  return { issue: call('issue'), list: call('list'), show: call('show'), revoke: call('revoke'), audit: call('audit') };
}

interface Reply<T> {
  readonly result?: T;
  readonly error?: {
    readonly kind: string;
    readonly code: string;
    readonly message: string;
    readonly details: errors.ErrorDetails;
  };
}

const KINDS = {
  malformed: errors.MalformedError,
  verification: errors.VerificationError,
  policy: errors.PolicyError,
} as const;

function readReply<T>(text: string): T {
  const { result, error } = parse(text);
  if (result !== undefined) return result;
  const { kind = '', code = 'admin', message = 'the running service failed; see its log', details = {} } = error ?? {};
  const Kind = Object.hasOwn(KINDS, kind) ? KINDS[kind as keyof typeof KINDS] : errors.EnvironmentError;
  throw new Kind(code, message, details);

  function parse(json: string): Reply<T> {
    try {
      return JSON.parse(json) as Reply<T>;
    } catch {
      return {};
    }
  }
}
