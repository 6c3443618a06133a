// A running licence service: sockets, service, and the two jobs beside the requests (chaining the audit log, forgetting challenges).
// Zone: owner.
import type { OwnerKeys } from '../owner-keys.js';
import { type AuditHead, linkAudit } from '../store/audit.js';
import type { Database } from '../store/database.js';
import type { Appraiser } from './appraiser.js';
import { createHttpApp, type RequestLog } from './http.js';
import { type Listening, type ListenOptions, listen } from './listen.js';
import { createLicenceService } from './service.js';

export interface RunOptions extends Omit<ListenOptions, 'fetch'> {
  readonly database: Database;
  readonly keys: readonly OwnerKeys[];
  readonly appraiser: Appraiser;
  readonly now?: () => number;
  readonly onRequest?: (request: RequestLog) => void;
  readonly onFailure?: (error: unknown) => void;
}

export interface RunningService extends Pick<Listening, 'url' | 'port'> {
  /** Finishes requests, links the audit log, closes the database. null: the log could not be linked; the next start will. */
  stop(graceMs?: number): Promise<AuditHead | null>;
}

const LINK_EVERY_MS = 1_000;
const SWEEP_EVERY_MS = 60_000;

/** The database belongs to the running service from here on. */
export async function runLicenceService(options: RunOptions): Promise<RunningService> {
  const { database, onFailure, onRequest, ...rest } = options;
  const { keys, appraiser, now, ...sockets } = rest;
  const service = createLicenceService({ database, keys, appraiser, ...(now === undefined ? {} : { now }) });
  const app = createHttpApp({
    service,
    ...(onRequest === undefined ? {} : { onRequest }),
    ...(onFailure === undefined ? {} : { onFailure }),
  });
  const listening = await listen({ ...sockets, fetch: (request) => app.fetch(request) });
  const jobs = [repeat(LINK_EVERY_MS, () => linkAudit(database)), repeat(SWEEP_EVERY_MS, () => service.sweep())];
  return {
    url: listening.url,
    port: listening.port,
    async stop(graceMs) {
      await listening.stop(graceMs);
      await Promise.all(jobs.map((job) => job.stop()));
      const head = await linkAudit(database).catch((error: unknown) => {
        onFailure?.(error);
        return null;
      });
      await database.close();
      return head;
    },
  };

  /** One after the other, with a pause; a failure is reported and tried again. */
  function repeat(everyMs: number, work: () => Promise<unknown>): { stop(): Promise<void> } {
    let stopped = false;
    let running = Promise.resolve();
    let timer = setTimeout(run, everyMs);
    function run(): void {
      running = work().then(
        () => undefined,
        (error: unknown) => onFailure?.(error),
      );
      void running.then(() => {
        if (!stopped) timer = setTimeout(run, everyMs);
      });
    }
    return {
      async stop() {
        stopped = true;
        clearTimeout(timer);
        await running;
      },
    };
  }
}
