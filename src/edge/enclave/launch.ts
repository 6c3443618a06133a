// Starts the enclave as its own process and makes sure that it does not outlive this one. Zone: edge. DESIGN section 6.
// SIMULATED: inside bubblewrap where that works, otherwise as a plain child, and it says which. SGX: under Gramine (not run on hardware).
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { decodeBase64url, encodeBase64url } from '../../trusted/wire/base64url.js';
import { EnvironmentError, MalformedError, ProtocolError, VerificationError } from '../../trusted/wire/errors.js';
import { gramineCommand, refuseRunning, relay } from './gramine.js';
import { bubblewrapArguments, bubblewrapWorks, ENCLAVE_MAIN } from './sandbox.js';

export interface LaunchOptions {
  readonly bundleDir: string;
  /** Sealed state and socket; created when missing. One enclave per folder. */
  readonly stateDir: string;
  /** Raw Ed25519 public key of the owner, 32 bytes. */
  readonly ownerPublicKey: Uint8Array;
  /** What the enclave runs on; `simulated` when absent. An enclave in a confidential VM is not started from here. */
  readonly platform?: 'simulated' | 'sgx';
  /** SGX: `PATH` of Gramine's `PATH.manifest.sgx`, which fixes bundle, state folder, owner's key and memory. */
  readonly gramineApp?: string;
  /** SIMULATED: `auto` uses bubblewrap where it works. */
  readonly sandbox?: 'auto' | 'bubblewrap' | 'none';
  /** Receives the SIMULATED notice; stderr when absent. */
  readonly onNotice?: (line: string) => void;
  /** Trusted memory for weights and activations of enclave-held parts, beyond the runtime's own; default 4096 MB. */
  readonly teeMemoryMb?: number;
  /** How long each attempt may stay silent before it is killed and the next one made. */
  readonly startTimeoutsMs?: readonly number[];
}

export interface EnclaveProcess {
  readonly socketPath: string;
  readonly sandbox: 'bubblewrap' | 'none' | 'gramine';
  readonly platform: 'simulated' | 'sgx';
  readonly label: string;
  /** Ed25519 public key of the simulated quoting root, for a verifier to pin; empty on hardware. */
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
/** A start takes 0.1 s; one of thousands was seen to hang before its first instruction of ours, so a silent one is started afresh. */
const START_TIMEOUTS_MS = [10_000, 60_000] as const;
const STOP_TIMEOUT_MS = 3_000;
const DEFAULT_TEE_MEMORY_MB = 4096;

function chooseSocketDir(stateDir: string): string {
  if (Buffer.byteLength(join(stateDir, 'enclave.sock')) <= MAX_SOCKET_PATH_BYTES) return stateDir;
  return realpathSync(mkdtempSync(join(tmpdir(), 'dl-')));
}

function chooseSandbox({ platform, sandbox: wanted = 'auto' }: LaunchOptions): EnclaveProcess['sandbox'] {
  if (platform === 'sgx') return 'gramine';
  if (wanted === 'none') return 'none';
  if (bubblewrapWorks()) return 'bubblewrap';
  if (wanted === 'auto') return 'none';
  throw new EnvironmentError('no-bubblewrap', 'bubblewrap is not installed or may not create namespaces here');
}

type StartRecord = Readonly<Record<string, string>>;

/** The first line of the child's stdout as a record; `{}` when it ended without one, `silent` when it says nothing in time. */
async function firstLine(child: ChildProcess, timeoutMs: number): Promise<StartRecord> {
  const silent = AbortSignal.timeout(timeoutMs);
  const lines = createInterface({ input: child.stdout!, signal: silent });
  try {
    for await (const line of lines) return JSON.parse(line) as StartRecord;
  } catch {
    // Not a line of ours: reported like no line at all.
  }
  return silent.aborted ? { error: 'enclave-silent' } : {};
}

const START_ERRORS: Readonly<Record<string, string>> = {
  'enclave-running': 'an enclave already runs on this state folder; stop it or use another folder',
  signature: 'manifest.jws is not a signature of the pinned owner key over this manifest.json',
  'jws-header': 'manifest.jws is not a manifest signature',
  'owner-key': 'manifest.json names another owner key',
  'sealed-part': 'enclave.sealed is not the file that manifest.json lists',
  'enclave-silent': 'its process runs but says nothing; the machine may be overloaded, try again',
  'platform-missing':
    'the platform is not there: /dev/attestation under Gramine, /sys/kernel/config/tsm/report in a confidential VM',
  'attestation-type': "Gramine's manifest does not say sgx.remote_attestation dcap",
  'sealing-key': 'the platform offers no sealing key, or its file is not 32 bytes that only its owner may read',
  'quote-failed': 'the platform gave no quote; is its quoting service running?',
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

interface Paths {
  readonly bundleDir: string;
  readonly stateDir: string;
  readonly socketDir: string;
  readonly socketPath: string;
}

/** The enclave's process, and what its first line said. It never outlives this process. */
interface Started {
  readonly child: ChildProcess;
  readonly record: StartRecord;
  readonly exited: Promise<void>;
  kill(): void;
}

interface Command {
  readonly command: readonly string[];
  readonly cwd?: string;
}

async function start({ command, cwd }: Command, timeoutMs: number): Promise<Started> {
  const child = spawn(command[0]!, command.slice(1), {
    cwd,
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
  }).then(() => void process.off('exit', kill));
  return { child, record: await firstLine(child, timeoutMs), exited, kill };
}

/** Starts anew when a process says nothing in its time; its refusals and crashes are final. Throws what `startError` makes of them. */
async function startSpoken(command: Command, options: LaunchOptions): Promise<Started> {
  const timeouts = options.startTimeoutsMs ?? START_TIMEOUTS_MS;
  for (const [attempt, timeoutMs] of timeouts.entries()) {
    const started = await start(command, timeoutMs);
    if (started.record.ready === 'yes') return started;
    started.kill();
    await started.exited;
    const again = started.record.error === 'enclave-silent' && attempt < timeouts.length - 1;
    if (!again) throw startError(started.record, options.bundleDir);
    notify(options, `the enclave's process said nothing for ${timeoutMs / 1000} s; it was killed and is started again`);
  }
  throw new RangeError('startTimeoutsMs is empty');
}

function notify(options: LaunchOptions, line: string): void {
  if (options.onNotice) options.onNotice(line);
  else process.stderr.write(`${line}\n`);
}

function enclaveCommand(options: LaunchOptions, sandbox: EnclaveProcess['sandbox'], paths: Paths): Command {
  if (sandbox === 'gramine') {
    if (options.gramineApp === undefined) throw new RangeError('platform sgx needs gramineApp');
    return gramineCommand(options.gramineApp);
  }
  const { bundleDir, stateDir, socketPath } = paths;
  const ownerKey = encodeBase64url(options.ownerPublicKey);
  const memory = String((options.teeMemoryMb ?? DEFAULT_TEE_MEMORY_MB) * 1e6);
  const command = [process.execPath, ENCLAVE_MAIN, 'simulated', bundleDir, stateDir, socketPath, ownerKey, memory];
  return { command: sandbox === 'none' ? command : ['bwrap', ...bubblewrapArguments(paths), ...command] };
}

const SGX_LABEL = "SGX enclave under Gramine: whether it is one, the owner's verifier decides";

/** Opens the Unix socket in front of an enclave that listens on a port; null where it opened the socket itself. */
async function openDoor(record: StartRecord, options: LaunchOptions, { socketPath }: Paths): Promise<Server | null> {
  const wanted = options.platform ?? 'simulated';
  if (record.platform !== wanted)
    throw new ProtocolError('enclave-platform', `the enclave says ${record.platform}, not ${wanted}`, { wanted });
  if (wanted === 'simulated') return null;
  rmSync(socketPath, { force: true });
  return relay(socketPath, record.address ?? '');
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
  const sandbox = chooseSandbox(options);
  const paths = { bundleDir, stateDir, socketDir, socketPath };
  const removeSocketDir = (): void => {
    if (socketDir !== stateDir) rmSync(socketDir, { recursive: true, force: true });
  };
  let started: Started | undefined;
  let door: Server | null;
  try {
    if (sandbox === 'gramine') await refuseRunning(socketPath);
    started = await startSpoken(enclaveCommand(options, sandbox, paths), options);
    door = await openDoor(started.record, options, paths);
  } catch (error) {
    started?.kill();
    removeSocketDir();
    throw error;
  }
  const { child, kill, record } = started;
  const exited = started.exited.then(() => door?.close()).then(removeSocketDir);
  // An idle enclave must not keep its parent's event loop alive.
  child.unref();
  for (const stream of [child.stdin, child.stdout]) (stream as unknown as { unref(): void }).unref();
  const platform = options.platform ?? 'simulated';
  const label = platform === 'simulated' ? (record.label ?? 'SIMULATED') : SGX_LABEL;
  notify(options, `${label} (sandbox: ${sandbox})`);
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
  const simulatedRoot = decodeBase64url(record.root ?? '');
  return {
    socketPath,
    sandbox,
    platform,
    label,
    simulatedRoot,
    pid: child.pid!,
    exited: waitForExit,
    stop,
  };
}
