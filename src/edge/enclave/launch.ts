// Starts the simulated enclave as its own process and makes sure that it does not outlive this one. Zone: edge. DESIGN section 6.
// It runs inside bubblewrap where that works, otherwise as a plain child, and says which, and that it is SIMULATED.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { decodeBase64url, encodeBase64url } from '../../trusted/wire/base64url.js';
import { EnvironmentError, MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import { bubblewrapArguments, bubblewrapWorks, ENCLAVE_MAIN } from './sandbox.js';

export interface LaunchOptions {
  readonly bundleDir: string;
  /** Sealed state and socket; created when missing. One enclave per folder. */
  readonly stateDir: string;
  /** Raw Ed25519 public key of the owner, 32 bytes. */
  readonly ownerPublicKey: Uint8Array;
  /** `auto` uses bubblewrap where it works. */
  readonly sandbox?: 'auto' | 'bubblewrap' | 'none';
  /** Receives the SIMULATED notice; stderr when absent. */
  readonly onNotice?: (line: string) => void;
}

export interface EnclaveProcess {
  readonly socketPath: string;
  readonly sandbox: 'bubblewrap' | 'none';
  readonly platform: 'simulated';
  readonly label: string;
  /** Ed25519 public key of the simulated quoting root, for a verifier to pin. */
  readonly simulatedRoot: Uint8Array;
  /** Process that ends the enclave when killed. */
  readonly pid: number;
  /** Settles when the process has ended; waiting keeps the event loop alive, which the process alone does not. */
  exited(): Promise<void>;
  /** Ends the enclave; sealed state stays. */
  stop(): Promise<void>;
}

/** sun_path holds 108 bytes with its terminator. */
const MAX_SOCKET_PATH_BYTES = 107;
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 3_000;

function chooseSocketDir(stateDir: string): string {
  if (Buffer.byteLength(join(stateDir, 'enclave.sock')) <= MAX_SOCKET_PATH_BYTES) return stateDir;
  return realpathSync(mkdtempSync(join(tmpdir(), 'dl-')));
}

function chooseSandbox(wanted: LaunchOptions['sandbox'] = 'auto'): EnclaveProcess['sandbox'] {
  if (wanted === 'none') return 'none';
  if (bubblewrapWorks()) return 'bubblewrap';
  if (wanted === 'auto') return 'none';
  throw new EnvironmentError('no-bubblewrap', 'bubblewrap is not installed or may not create namespaces here');
}

/** The first line of the child's stdout as a record; empty when it ended or stayed silent. */
async function firstLine(child: ChildProcess): Promise<Readonly<Record<string, string>>> {
  const timer = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
  try {
    for await (const line of createInterface({ input: child.stdout! }))
      return JSON.parse(line) as Record<string, string>;
    return {};
  } catch {
    return {};
  } finally {
    clearTimeout(timer);
  }
}

const START_ERRORS: Readonly<Record<string, string>> = {
  'enclave-running': 'an enclave already runs on this state folder; stop it or use another folder',
  signature: 'manifest.jws is not a signature of the pinned owner key over this manifest.json',
  'jws-header': 'manifest.jws is not a manifest signature',
  'owner-key': 'manifest.json names another owner key',
  'sealed-part': 'enclave.sealed is not the file that manifest.json lists',
  'sealed-state': 'the sealed state does not open: it belongs to another bundle or machine, or was altered',
};

function startError(record: Readonly<Record<string, string>>, bundleDir: string): Error {
  const code = record.error ?? 'enclave-start';
  const message = `the enclave refused to start: ${START_ERRORS[code] ?? `code ${code}; check bundle and state folder`}`;
  const details = { bundleDir };
  if (record.kind === 'verification') return new VerificationError(code, message, details);
  if (record.kind === 'malformed') return new MalformedError(code, message, details);
  return new EnvironmentError(code, message, details);
}

/**
 * Returns once the enclave answers on its socket. Throws VerificationError or MalformedError for a bundle or state it does not
 * trust, EnvironmentError when it cannot start (`enclave-running`: a second one on the same folder).
 */
export async function launchEnclave(options: LaunchOptions): Promise<EnclaveProcess> {
  mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  const stateDir = realpathSync(options.stateDir);
  const bundleDir = realpathSync(options.bundleDir);
  const socketDir = chooseSocketDir(stateDir);
  const socketPath = join(socketDir, 'enclave.sock');
  const sandbox = chooseSandbox(options.sandbox);
  const command = [
    process.execPath,
    ENCLAVE_MAIN,
    bundleDir,
    stateDir,
    socketPath,
    encodeBase64url(options.ownerPublicKey),
  ];
  const wrapped =
    sandbox === 'none' ? command : ['bwrap', ...bubblewrapArguments({ bundleDir, stateDir, socketDir }), ...command];
  const child = spawn(wrapped[0]!, wrapped.slice(1), {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH },
    // A process group of its own: Ctrl-C reaches the terminal's whole group and would kill bubblewrap before this process has
    // stopped where it can resume. Windows has no groups, and a detached child there opens a window.
    detached: process.platform !== 'win32',
  });
  const kill = (): void => void child.kill('SIGKILL');
  process.on('exit', kill);
  const exited = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  }).then(() => {
    process.off('exit', kill);
    if (socketDir !== stateDir) rmSync(socketDir, { recursive: true, force: true });
  });
  const started = await firstLine(child);
  const { label, root } = started;
  if (started.ready !== 'yes' || label === undefined || root === undefined) {
    kill();
    await exited;
    throw startError(started, bundleDir);
  }
  // An idle enclave must not keep its parent's event loop alive.
  child.unref();
  for (const stream of [child.stdin, child.stdout]) (stream as unknown as { unref(): void }).unref();
  (options.onNotice ?? ((line) => process.stderr.write(`${line}\n`)))(`${label} (sandbox: ${sandbox})`);
  function waitForExit(): Promise<void> {
    child.ref();
    return exited;
  }
  async function stop(): Promise<void> {
    child.stdin?.end(); // The enclave ends by itself, and bubblewrap after it; a signal would reach bubblewrap first.
    const timer = setTimeout(kill, STOP_TIMEOUT_MS);
    await waitForExit();
    clearTimeout(timer);
  }
  const simulatedRoot = decodeBase64url(root);
  return {
    socketPath,
    sandbox,
    platform: 'simulated',
    label,
    simulatedRoot,
    pid: child.pid!,
    exited: waitForExit,
    stop,
  };
}
