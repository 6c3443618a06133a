// The bubblewrap sandbox of the simulated enclave: no network, own process space, code and bundle read-only, one writable folder.
// Zone: edge. It protects the data owner from the enclave program, not the owner's model from the machine.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface SandboxPaths {
  readonly bundleDir: string;
  readonly stateDir: string;
  /** Folder of the socket; often the state folder itself. */
  readonly socketDir: string;
}

const TRUSTED_DIR = fileURLToPath(new URL('../../trusted', import.meta.url));
const PACKAGE_JSON = fileURLToPath(new URL('../../../../package.json', import.meta.url));
export const ENCLAVE_MAIN: string = join(TRUSTED_DIR, 'platform', 'enclave-main.js');
const ISOLATION = ['--unshare-all', '--die-with-parent', '--new-session', '--clearenv'];

/** True when `bwrap` is installed and may create its namespaces here. */
export function bubblewrapWorks(): boolean {
  if (process.platform !== 'linux') return false;
  const args = [...ISOLATION, '--ro-bind', '/', '/', '--dev', '/dev', process.execPath, '--version'];
  return spawnSync('bwrap', args, { stdio: 'ignore', timeout: 10_000 }).status === 0;
}

/** The folder of the package `name` that `file` lies in. */
function packageFolder(file: string, name: string): string {
  let folder = dirname(file);
  while (basename(folder) !== name) folder = dirname(folder);
  return folder;
}

/** Arguments of `bwrap` up to the command. */
export function bubblewrapArguments(paths: SandboxPaths): string[] {
  const { resolve } = createRequire(import.meta.url);
  const hpke = dirname(dirname(resolve('@hpke/core/package.json')));
  // The enclave's own runtime, for bundles that place parts inside; its package shows no package.json to ask for.
  const runtime = ['onnxruntime-node', 'onnxruntime-common'].map((name) => packageFolder(resolve(name), name));
  const system = ['/usr', '/lib', '/lib64', '/bin'].flatMap((path) => ['--ro-bind-try', path, path]);
  const readOnly = [process.execPath, TRUSTED_DIR, PACKAGE_JSON, hpke, ...runtime, paths.bundleDir];
  const writable = [...new Set([paths.stateDir, paths.socketDir])];
  return [
    ...ISOLATION,
    // The runtime reads the processor's features from /proc and /sys; both show the sandbox's own processes and nothing of the disk.
    ...[
      '--tmpfs',
      '/tmp',
      '--dev',
      '/dev',
      '--proc',
      '/proc',
      '--ro-bind-try',
      '/sys/devices/system',
      '/sys/devices/system',
    ],
    ...system,
    ...readOnly.flatMap((path) => ['--ro-bind', path, path]),
    ...writable.flatMap((path) => ['--bind', path, path]),
    ...['--chdir', paths.stateDir],
  ];
}
