// The demo's licence service: `distillock licence serve` as a process of its own, on this machine's loopback, on an embedded database.
// Zone: owner. The device talks to it over HTTP as it would to one elsewhere.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { writeFileAtomic } from '../../model/files.js';
import type { LicenceHistory, LicenceOrder } from '../../owner/service/licences.js';
import { encodeBase64url } from '../../trusted/wire/base64url.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import { withLicences } from '../licence-admin.js';

export interface LicenceDesk {
  readonly url: string;
  readonly pid: number;
  /** Gives the activation code. */
  issue(order: LicenceOrder): Promise<{ readonly licenceId: string; readonly activationCode: string }>;
  show(licenceId: string): Promise<LicenceHistory>;
  stop(): Promise<void>;
}

export interface DeskOptions {
  /** For its database; made when missing. */
  readonly folder: string;
  /** File of the owner's secrets. */
  readonly keys: string;
  /** Accepted: this bundle's enclaves on this SIMULATED platform, named by its raw Ed25519 key. */
  readonly bundleId: string;
  readonly simulatedRoot: Uint8Array;
}

const MAIN = fileURLToPath(new URL('../main.js', import.meta.url));

/** Throws EnvironmentError('licence-service') with the service's last words when it does not start. */
export async function openLicenceDesk({ folder, keys, bundleId, simulatedRoot }: DeskOptions): Promise<LicenceDesk> {
  const database = join(folder, 'licences');
  const policy = join(folder, 'policy.yaml');
  await writeFileAtomic(policy, policyText(bundleId, simulatedRoot));
  const words = ['--keys', keys, '--policy', policy, '--database', database];
  const child = spawn(process.execPath, [MAIN, 'licence', 'serve', ...words, '--listen', '127.0.0.1:0', '--json'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const kill = (): void => void child.kill('SIGKILL');
  process.on('exit', kill);
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  }).then(() => void process.off('exit', kill));
  const lines = createInterface({ input: child.stderr });
  let last = '';
  const url = await new Promise<string | null>((resolve) => {
    // Goes on reading afterwards: a full pipe would stop the service.
    lines.on('line', (line) => {
      last = line;
      const ready = readyUrl(line);
      if (ready !== null) resolve(ready);
    });
    void ended.then(() => resolve(null));
  });
  if (url === null) throw new EnvironmentError('licence-service', `the licence service did not start: ${last}`);
  return {
    url,
    pid: child.pid!,
    async issue(order) {
      const { licence, activationCode } = await withLicences(database, (admin) => admin.issue(order));
      return { licenceId: licence.licenceId, activationCode };
    },
    show: (licenceId) => withLicences(database, (admin) => admin.show(licenceId)),
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

function policyText(bundleId: string, root: Uint8Array): string {
  const lines = [
    'version: 1',
    'bundles:',
    `  - ${bundleId}`,
    'simulated:',
    '  roots:',
    `    - ${encodeBase64url(root)}`,
  ];
  return `${[...lines, '  measurements: any'].join('\n')}\n`;
}

function readyUrl(line: string): string | null {
  try {
    const { event, url } = JSON.parse(line) as { event?: unknown; url?: unknown };
    return event === 'ready' && typeof url === 'string' ? url : null;
  } catch {
    return null;
  }
}
