// distillock licence serve: the licence service, until it is stopped. Run by the model owner.
import type { Command } from 'commander';
import type { Reference } from '../../../owner/service/appraiser.js';
import type { RequestLog } from '../../../owner/service/http.js';
import type { AuditHead } from '../../../owner/store/audit.js';
import { UsageError } from '../../errors.js';
import { databaseOption } from '../../licence-admin.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface LicenceServeOptions {
  readonly host: string;
  readonly port: number;
  readonly keys: readonly string[];
  readonly database: string;
  readonly tls: { readonly cert: string; readonly key: string } | null;
  /** YAML; read again every few minutes, like the collateral. */
  readonly policy: string;
  /** File or folder of Intel's and AMD's; undefined: none. */
  readonly collateral: string | undefined;
}

interface Raw {
  readonly listen: string;
  readonly keys: readonly string[];
  readonly database: string;
  readonly tls_cert: string | undefined;
  readonly tls_key: string | undefined;
  readonly plain_http: boolean;
  readonly policy: string;
  readonly collateral: string | undefined;
}

/** Collateral is good for days; a policy should be in force within minutes. */
const REFERENCE_EVERY_MS = 5 * 60_000;
const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

export const licenceServeHelp: VerbHelp<LicenceServeOptions> = {
  name: 'licence serve',
  summary: 'run the licence service: evidence in, grants, leases and receipts out (owner)',
  examples: [
    ['distillock licence serve --keys t.keys --policy policy.yaml', 'on this machine only, licences in ./licences'],
    [
      'distillock licence serve --listen 0.0.0.0:8443 --tls_cert fullchain.pem --tls_key key.pem --keys t.keys --database postgres://licences@db/licences --policy policy.yaml',
      'one of a fleet that shares a PostgreSQL server',
    ],
  ],
  define(command: Command): void {
    databaseOption(command)
      .option('--listen <host:port>', 'address; port 0 takes a free one', '127.0.0.1:8443')
      .requiredOption('--keys <file...>', "owner's secrets of the bundles that are licensed here")
      .requiredOption('--policy <file>', 'attestation policy in YAML: who gets a key; see examples/policy')
      .option(
        '--collateral <file|folder>',
        "Intel's collateral (.json), AMD's chains (.pem) and revocation list (.crl)",
      )
      .option('--tls_cert <file>', 'certificate chain, PEM')
      .option('--tls_key <file>', 'its private key, PEM')
      .option('--plain_http', 'no TLS here although others can connect: a proxy in front does it', false);
  },
  parse(command: Command): LicenceServeOptions {
    const raw = command.opts<Raw>();
    const { host, port } = parseAddress(raw.listen);
    const { tls_cert: cert, tls_key: key } = raw;
    if ((cert === undefined) !== (key === undefined))
      throw new UsageError('usage', 'TLS needs both --tls_cert and --tls_key');
    if (cert === undefined && !raw.plain_http && !LOOPBACK.includes(host)) {
      const message = `without TLS, activation codes would cross the network readable: give --tls_cert and --tls_key, or --plain_http behind a proxy that does TLS`;
      throw new UsageError('usage', message);
    }
    const tls = cert === undefined || key === undefined ? null : { cert, key };
    const { keys, database, policy, collateral } = raw;
    return { host, port, tls, keys, database, policy, collateral };
  },
};

export const licenceServe: Verb<LicenceServeOptions> = { ...licenceServeHelp, run: runServe };

/** What --json prints at the end. */
interface ServeResult {
  readonly requests: number;
  /** The audit log's end; null when the database was out of reach. */
  readonly audit: AuditHead | null;
}

async function runServe(options: LicenceServeOptions, context: Context): Promise<ServeResult> {
  const { loadOwnerKeys } = await import('../../../owner/owner-keys.js');
  const { runLicenceService } = await import('../../../owner/service/run.js');
  const { createAdmin } = await import('../../../owner/service/admin.js');
  const { serveAdmin } = await import('../../../owner/service/admin-socket.js');
  const { openDatabase } = await import('../../../owner/store/database.js');
  const { freshAppraiser } = await import('../../../owner/service/appraiser.js');
  const { readCollateral, readPolicy } = await import('../../../attest/index.js');
  const { askPassphrase } = await import('../../passphrase.js');
  const keys = [];
  for (const file of options.keys) keys.push(await loadOwnerKeys(file, askPassphrase));
  const tls = options.tls === null ? {} : { tls: await readTls(options.tls) };
  let requests = 0;
  let stopAdmin: (() => Promise<void>) | null = null;
  const log = (line: Readonly<Record<string, unknown>>, text: string): void => {
    const time = new Date().toISOString();
    context.note(context.json ? JSON.stringify({ time, ...line }) : `${time} ${text}`);
  };
  const onFailure = (error: unknown): void => {
    const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : '';
    log({ event: 'failure', error: `${String(error)}${cause}` }, `failure: ${String(error)}${cause}`);
  };
  const fresh = await freshAppraiser({ read: readReference, everyMs: REFERENCE_EVERY_MS, onFailure });
  if ((await readPolicy(options.policy)).simulated !== undefined)
    context.note('SIMULATED evidence is accepted: no hardware vouches for those enclaves');
  const database = await openDatabase(options.database);
  try {
    if (database.kind === 'embedded') stopAdmin = await serveAdmin(options.database, createAdmin(database));
    const running = await runLicenceService({
      ...{ database, keys, host: options.host, port: options.port, ...tls },
      appraiser: fresh.appraiser,
      onRequest(request) {
        requests += 1;
        log({ event: 'request', ...request }, describe(request));
      },
      onFailure,
    });
    const ready = `ready: ${running.url}, licences in ${database.kind === 'embedded' ? options.database : 'PostgreSQL'}`;
    if (context.json) log({ event: 'ready', url: running.url, database: database.kind }, ready);
    else context.print(ready);
    await untilAborted(context.signal);
    await stopAdmin?.();
    const audit = await running.stop();
    const end = audit === null ? '' : `; ${audit.position} audit entries, last hash ${audit.hash}`;
    context.print(`stopped after ${requests} requests${end}`);
    return { requests, audit };
  } catch (error) {
    await stopAdmin?.();
    await database.close().catch(() => undefined);
    throw error;
  } finally {
    fresh.stop();
  }

  async function readReference(): Promise<Reference> {
    const policy = await readPolicy(options.policy);
    return { policy, collateral: options.collateral === undefined ? {} : await readCollateral(options.collateral) };
  }
}

function describe({ method, path, status, milliseconds, code, reason }: RequestLog): string {
  const why = code === undefined ? '' : ` ${code}${reason === undefined ? '' : ` (${reason})`}`;
  return `${method} ${path} ${status}${why} ${milliseconds} ms`;
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

async function readTls({ cert, key }: { cert: string; key: string }): Promise<{ cert: Buffer; key: Buffer }> {
  const { readFile } = await import('node:fs/promises');
  const { describeFileError } = await import('../../../model/files.js');
  const read = (file: string): Promise<Buffer> =>
    readFile(file).catch((error: unknown) => {
      throw describeFileError(error, file, 'read');
    });
  return { cert: await read(cert), key: await read(key) };
}

function parseAddress(text: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535)
    throw new UsageError('usage', `--listen ${text}: give host:port, such as 127.0.0.1:8443 or [::1]:8443`);
  return { host: bracketed ?? plain ?? '', port };
}
