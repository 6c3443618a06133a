// A TPM 2.0 in software for tests and recordings: swtpm with its own CA in a temporary folder, driven by tpm2-tools.
// Needs the Debian packages swtpm, swtpm-tools and tpm2-tools. The TPM ends with this process, however it ends.
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { TpmEndorsement } from '../src/attest/tpm/endorsement.js';

const PROGRAMS = ['swtpm', 'swtpm_setup', 'swtpm_localca', 'tpm2_quote', 'setpriv'];
/** NV index of the RSA endorsement certificate; swtpm certifies no P-256 key (its ECC certificate is for P-384). */
const RSA_CERTIFICATE = '0x1c00002';

/** The first program that is missing, or null. */
export function missingTpmProgram(): string | null {
  return PROGRAMS.find((name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0) ?? null;
}

export interface RecordedQuote {
  readonly attest: Uint8Array;
  readonly signature: Uint8Array;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
}

export class SoftwareTpm {
  readonly #folder: string;
  readonly #port: number;
  readonly #child: ChildProcess;
  #files = 0;

  private constructor(folder: string, port: number, child: ChildProcess) {
    this.#folder = folder;
    this.#port = port;
    this.#child = child;
  }

  static async start(): Promise<SoftwareTpm> {
    const folder = mkdtempSync(join(tmpdir(), 'distillock-tpm-'));
    try {
      const state = await manufacture(folder);
      const port = await freePortPair();
      const address = (number: number): string => `type=tcp,port=${number},bindaddr=127.0.0.1`;
      const flags = ['--flags', 'not-need-init,startup-clear'];
      const swtpm = ['swtpm', 'socket', '--tpm2', '--tpmstate', `dir=${state}`, '--server', address(port)];
      // The kernel kills it when this process dies, killed or not.
      const args = ['--pdeathsig', 'KILL', ...swtpm, '--ctrl', address(port + 1), ...flags];
      const child = spawn('setpriv', args, { stdio: 'ignore' });
      const tpm = new SoftwareTpm(folder, port, child);
      try {
        await reachable(port, child);
      } catch (error) {
        await tpm.stop();
        throw error;
      }
      return tpm;
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** The root of the folder's own CA, DER. */
  get rootCertificate(): Uint8Array {
    return fromPem(join(this.#folder, 'ca', 'swtpm-localca-rootca-cert.pem'));
  }

  async #run(program: string, ...args: string[]): Promise<void> {
    const env = { ...process.env, TPM2TOOLS_TCTI: `swtpm:host=127.0.0.1,port=${this.#port}` };
    const run = promisify(execFile);
    await run(program, args, { cwd: this.#folder, env, timeout: 120_000 });
    // Else the few slots of the TPM fill up (0x902).
    await run('tpm2_flushcontext', ['-t'], { cwd: this.#folder, env, timeout: 120_000 });
  }

  #path(name: string): string {
    this.#files++;
    return join(this.#folder, `${this.#files}-${name}`);
  }

  /** Makes an endorsement key; `context` names it in later calls. */
  async endorsementKey(kind: 'rsa' | 'ecc'): Promise<{ readonly context: string; readonly ekPublic: Uint8Array }> {
    const [context, ekPublic] = [this.#path('ek.ctx'), this.#path('ek.pub')];
    await this.#run('tpm2_createek', '-G', kind, '-c', context, '-u', ekPublic);
    return { context, ekPublic: read(ekPublic) };
  }

  /** The RSA endorsement key with the certificate that came with the TPM. */
  async endorsement(): Promise<TpmEndorsement & { readonly context: string }> {
    const key = await this.endorsementKey('rsa');
    const certificate = this.#path('ek.der');
    await this.#run('tpm2_nvread', RSA_CERTIFICATE, '-o', certificate);
    const chain = [fromPem(join(this.#folder, 'ca', 'issuercert.pem'))];
    return { ...key, ekCertificate: read(certificate), chain };
  }

  async attestationKey(ekContext: string): Promise<{ readonly context: string; readonly akPublic: Uint8Array }> {
    const [context, akPublic, name] = [this.#path('ak.ctx'), this.#path('ak.pub'), this.#path('ak.name')];
    const kind = ['-G', 'ecc', '-g', 'sha256', '-s', 'ecdsa'];
    await this.#run('tpm2_createak', '-C', ekContext, '-c', context, ...kind, '-u', akPublic, '-n', name);
    return { context, akPublic: read(akPublic) };
  }

  /** Loads a public area alone; returns its context. */
  async loadPublic(area: Uint8Array): Promise<string> {
    const [input, context] = [this.#path('external.pub'), this.#path('external.ctx')];
    writeFileSync(input, area);
    await this.#run('tpm2_loadexternal', '-C', 'n', '-u', input, '-c', context);
    return context;
  }

  async extend(pcr: number, digest: Uint8Array): Promise<void> {
    await this.#run('tpm2_pcrextend', `${pcr}:sha256=${Buffer.from(digest).toString('hex')}`);
  }

  async quote(
    akContext: string,
    qualifyingData: Uint8Array,
    pcrs: readonly number[],
    format: 'tss' | 'plain' = 'tss',
  ): Promise<RecordedQuote> {
    const [message, signature, values] = [this.#path('quote.msg'), this.#path('quote.sig'), this.#path('pcrs')];
    const selection = `sha256:${pcrs.join(',')}`;
    const data = Buffer.from(qualifyingData).toString('hex');
    const into = ['-f', format, '-m', message, '-s', signature];
    await this.#run('tpm2_quote', '-c', akContext, '-l', selection, '-q', data, ...into);
    await this.#run('tpm2_pcrread', selection, '-o', values);
    const bytes = read(values);
    const entries = pcrs.map((pcr, i) => [pcr, bytes.slice(32 * i, 32 * i + 32)] as const);
    return { attest: read(message), signature: read(signature), pcrs: new Map(entries) };
  }

  /** TPM2_ActivateCredential under the endorsement key's policy. Rejects when the TPM refuses. */
  async activate(ekContext: string, akContext: string, credential: Uint8Array): Promise<Uint8Array> {
    const [input, output, session] = [this.#path('credential'), this.#path('secret'), this.#path('session.ctx')];
    writeFileSync(input, credential);
    await this.#run('tpm2_startauthsession', '--policy-session', '-S', session);
    try {
      await this.#run('tpm2_policysecret', '-S', session, '-c', 'e');
      const keys = ['-c', akContext, '-C', ekContext];
      await this.#run('tpm2_activatecredential', ...keys, '-i', input, '-o', output, '-P', `session:${session}`);
    } finally {
      await this.#run('tpm2_flushcontext', session);
    }
    return read(output);
  }
}

function read(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

function fromPem(path: string): Uint8Array {
  return new Uint8Array(new X509Certificate(readFileSync(path)).raw);
}

/** A TPM state with endorsement certificates from a CA of its own; returns its folder. */
async function manufacture(folder: string): Promise<string> {
  const [ca, state] = [join(folder, 'ca'), join(folder, 'state')];
  mkdirSync(ca);
  mkdirSync(state);
  const file = (name: string, lines: readonly string[]): string => {
    const path = join(folder, name);
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  };
  const [key, issuer, serial] = [join(ca, 'signkey.pem'), join(ca, 'issuercert.pem'), join(ca, 'certserial')];
  const localca = file('localca.conf', [
    `statedir = ${ca}`,
    `signingkey = ${key}`,
    `issuercert = ${issuer}`,
    `certserial = ${serial}`,
  ]);
  const options = file('localca.options', [
    '--platform-manufacturer none',
    '--platform-version 1',
    '--platform-model none',
  ]);
  const config = file('setup.conf', [
    'create_certs_tool = swtpm_localca',
    `create_certs_tool_config = ${localca}`,
    `create_certs_tool_options = ${options}`,
    'active_pcr_banks = sha256',
  ]);
  const make = ['--create-ek-cert', '--create-platform-cert', '--lock-nvram', '--pcr-banks', 'sha256'];
  const args = ['--tpm2', '--tpmstate', state, '--config', config, ...make];
  await promisify(execFile)('swtpm_setup', args, { timeout: 300_000 });
  return state;
}

/** The control port is always the next one. */
async function freePortPair(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = 20_000 + Math.floor(Math.random() * 30_000);
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
  throw new Error('no two free ports in a row');
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Waits for the control port: the server port takes one client only. */
async function reachable(port: number, child: ChildProcess): Promise<void> {
  let failed = false;
  child.once('error', () => {
    failed = true;
  });
  for (let tries = 0; tries < 600 && !failed && child.exitCode === null; tries++) {
    const socket = connect(port + 1, '127.0.0.1');
    const open = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    socket.destroy();
    if (open) return;
    await sleep(100);
  }
  throw new Error('swtpm does not answer');
}
