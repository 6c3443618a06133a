// `distillock licence serve` as a process of its own, for tests and the licence bench: started, killed, started again.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type OwnerKeys, saveOwnerKeys } from '../../src/owner/owner-keys.js';
import { encodeHex } from '../../src/trusted/wire/bytes.js';
import { EnvironmentError } from '../../src/trusted/wire/errors.js';
import { BUNDLE, type SimulatedRoot } from './device.js';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface ServiceProcess {
  readonly url: string;
  /** SIGKILL; resolves once the process is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
}

export interface ServiceSetup {
  /** Folder or URL. */
  readonly database: string;
  readonly keys: OwnerKeys;
  readonly root: SimulatedRoot;
}

/** A policy for `--policy`: any code of this SIMULATED platform, for `BUNDLE`. */
export async function writeSimulatedPolicy(file: string, { signingKey }: SimulatedRoot): Promise<void> {
  const pins = `simulated:\n  roots: [${encodeHex(signingKey)}]\n  measurements: any\n`;
  await writeFile(file, `version: 1\nbundles: [${BUNDLE}]\n${pins}`);
}

/** Throws EnvironmentError('service-start') with the last of its output when it ends before it is ready. */
export async function startService({ database, keys, root }: ServiceSetup): Promise<ServiceProcess> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-served-'));
  const keyFile = join(folder, 'service.keys');
  await saveOwnerKeys(keyFile, keys);
  const policyFile = join(folder, 'policy.yaml');
  await writeSimulatedPolicy(policyFile, root);
  const args = ['licence', 'serve', '--listen', '127.0.0.1:0', '--keys', keyFile, '--database', database, '--json'];
  const child = spawn(process.execPath, [main, ...args, '--policy', policyFile], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  void ended.then(() => rm(folder, { recursive: true, force: true }));
  let output = '';
  const url = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-4096);
      const ready = /"event":"ready","url":"([^"]+)"/.exec(output)?.[1];
      if (ready !== undefined) resolve(ready);
    });
    void ended.then((code) =>
      reject(new EnvironmentError('service-start', `the service ended with code ${code}: ${output}`)),
    );
  });
  const end = async (signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> => {
    child.kill(signal);
    return ended;
  };
  return {
    url,
    async kill() {
      await end('SIGKILL');
    },
    stop: () => end('SIGTERM'),
  };
}
