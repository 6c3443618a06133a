// The simulated enclave's process: opens one Unix socket and answers until told to stop.
// Zone: trusted (in form only). It ends when stdin closes, that is when its parent is gone, and on SIGTERM.
// The first line on stdout says `ready` or names the error's code; nothing else is ever printed.

import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { createEnclave } from '../enclave/enclave.js';
import { decodeBase64url, encodeBase64url } from '../wire/base64url.js';
import { DistillockError, EnvironmentError } from '../wire/errors.js';
import { bundleId } from '../wire/manifest.js';
import { createGrantOpener } from './hpke.js';
import { startServer } from './server.js';
import { createSimulatedPlatform, SIMULATED_LABEL } from './simulated.js';

/** Arguments: bundle folder, state folder, socket path, owner's public key in base64url, bytes of trusted memory. */
const [bundleDir = '', stateDir = '', socketPath = '', ownerKey = '', memory = ''] = process.argv.slice(2);

function say(record: Readonly<Record<string, string>>): void {
  process.stdout.write(`${JSON.stringify(record)}\n`);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path, () => resolve(true)).on('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
}

/** A socket file without a listener is left over from a killed process; one that keeps listening is a running enclave. */
async function clearStaleSocket(path: string): Promise<void> {
  for (let tries = 0; await answers(path); tries++) {
    if (tries === 20) throw new EnvironmentError('enclave-running', 'an enclave already runs on this state folder');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  rmSync(path, { force: true });
}

async function main(): Promise<void> {
  await clearStaleSocket(socketPath);
  const opener = await createGrantOpener();
  const { encryptionKey } = opener;
  const platform = createSimulatedPlatform({
    bundleDir,
    stateDir,
    ownerKey: decodeBase64url(ownerKey),
    encryptionKey,
    memoryBytes: Number(memory),
  });
  const enclave = createEnclave(platform.port);
  const server = await startServer(socketPath, { enclave, opener, bundleId: bundleId(platform.port.bundle.manifest) });
  const stop = (): void => {
    server.close();
    process.exit(0);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', () => {}); // Ctrl-C reaches the whole group; the parent decides when the enclave ends.
  process.stdin.on('end', stop).on('close', stop).resume();
  say({ ready: 'yes', platform: 'simulated', label: SIMULATED_LABEL, root: encodeBase64url(platform.root) });
}

main().catch((error: unknown) => {
  say({
    error: error instanceof DistillockError ? error.code : 'internal',
    kind: error instanceof DistillockError ? error.kind : '',
  });
  process.exitCode = 1;
  process.stdin.destroy();
});
