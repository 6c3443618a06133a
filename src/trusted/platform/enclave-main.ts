// The enclave's process, on every platform: opens one socket and answers until told to stop. Zone: trusted.
// It ends on SIGTERM and, where a launcher started it (simulated, sgx), when stdin closes, that is when its parent is gone.
// The first line on stdout says `ready` or names the error's code; nothing else is ever printed.

import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createEnclave } from '../enclave/enclave.js';
import { decodeBase64url, encodeBase64url } from '../wire/base64url.js';
import { DistillockError, EnvironmentError, UnsupportedError } from '../wire/errors.js';
import { bundleId } from '../wire/manifest.js';
import { createGrantOpener } from './hpke.js';
import { type Adapter, openPort } from './open-port.js';
import { startServer } from './server.js';
import { openSgx } from './sgx.js';
import { openSimulated, SIMULATED_LABEL } from './simulated.js';
import { openStateFile } from './state-file.js';
import { openTsm } from './tsm.js';
import { openVmState } from './vm-state.js';

/**
 * Arguments: platform, bundle folder, state folder, socket path or `tcp:PORT`, owner's public key in base64url, bytes of trusted
 * memory, and in a confidential VM the sealing key's file (none: state in memory only).
 */
const [kind = '', bundleDir = '', stateDir = '', door = '', ownerKey = '', memory = '', keyFile = ''] =
  process.argv.slice(2);
const stateFile = join(stateDir, 'sealed-state.bin');

const adapters: Readonly<Record<string, () => Adapter>> = {
  simulated: () => openSimulated(openStateFile(stateFile), stateDir),
  sgx: () => openSgx(openStateFile(stateFile)),
  tdx: () => openTsm('tdx', openVmState(stateFile, keyFile)),
  snp: () => openTsm('snp', openVmState(stateFile, keyFile)),
};

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
  if (!door.startsWith('tcp:')) await clearStaleSocket(door); // An enclave that is still ending may still write its state.
  const adapter = adapters[kind]?.();
  if (adapter === undefined) throw new UnsupportedError('platform', 'the platform is simulated, sgx, tdx or snp');
  // A platform that cannot quote says so now, not when the owner asks. No claims hash to these bytes.
  adapter.quote(new Uint8Array(64));
  const opener = await createGrantOpener();
  const { encryptionKey } = opener;
  const options = { bundleDir, ownerKey: decodeBase64url(ownerKey), encryptionKey, memoryBytes: Number(memory) };
  const port = openPort(options, adapter);
  const enclave = createEnclave(port);
  const { server, address } = await startServer(door, { enclave, opener, bundleId: bundleId(port.bundle.manifest) });
  const stop = (): void => {
    server.close();
    try {
      enclave.settle();
    } finally {
      process.exit(0);
    }
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', () => {}); // Ctrl-C reaches the whole group; the parent decides when the enclave ends.
  if (kind === 'simulated' || kind === 'sgx') process.stdin.on('end', stop).on('close', stop).resume();
  const simulated = adapter.root ? { label: SIMULATED_LABEL, root: encodeBase64url(adapter.root) } : {};
  say({ ready: 'yes', platform: adapter.kind, address, ...simulated });
}

main().catch((error: unknown) => {
  say({
    error: error instanceof DistillockError ? error.code : 'internal',
    kind: error instanceof DistillockError ? error.kind : '',
  });
  process.exitCode = 1;
  process.stdin.destroy();
});
