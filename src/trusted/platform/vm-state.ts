// Sealed state inside a confidential VM, which offers plain programs no key of the hardware. Zone: trusted. Not run on hardware.
// TDX has no sealing key in the guest; SEV-SNP's derived key needs an ioctl, which Node cannot make. So there are two choices:
// a key file on the VM's own encrypted disk, or key and state in memory only: a restart then needs a new licence.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { EnvironmentError } from '../wire/errors.js';
import { openStateFile, type StateFile } from './state-file.js';

export interface VmState {
  readonly sealingKey: Uint8Array;
  readonly state: StateFile;
}

/** One process, one holder: what it saved last is what it holds. */
function memoryState(): StateFile {
  let held: readonly Uint8Array[] = [];
  return {
    load: () => held,
    save: (bytes) => {
      held = [bytes];
    },
  };
}

/**
 * `keyFile` empty: in memory only. Otherwise 32 bytes, made at the first start with mode 0600.
 * Throws EnvironmentError('sealing-key') for a file of another size or one that others may read.
 */
export function openVmState(stateFile: string, keyFile: string): VmState {
  if (keyFile === '') return { sealingKey: randomBytes(32), state: memoryState() };
  if (!existsSync(keyFile)) writeFileSync(keyFile, randomBytes(32), { mode: 0o600, flag: 'wx', flush: true });
  const sealingKey = new Uint8Array(readFileSync(keyFile));
  if (sealingKey.length !== 32 || (statSync(keyFile).mode & 0o077) !== 0)
    throw new EnvironmentError('sealing-key', `${keyFile} is not 32 bytes that only its owner may read`);
  return { sealingKey, state: openStateFile(stateFile) };
}
