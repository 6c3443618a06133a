// Sealed state inside a confidential VM, which offers plain programs no key of the hardware. Zone: trusted. Not run on hardware.
// TDX has no sealing key in the guest; SEV-SNP's derived key needs an ioctl, which Node cannot make. So there are two choices:
// a key file on the VM's own encrypted disk, or key and state in memory only: a restart then needs a new licence.
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { EnvironmentError } from '../wire/errors.js';
import { openStateFile, type StateFile } from './state-file.js';

export interface VmState {
  readonly sealingKey: Uint8Array;
  readonly state: StateFile;
}

function memoryState(): StateFile {
  let held: Uint8Array | null = null;
  const save = (bytes: Uint8Array): void => {
    held = bytes;
  };
  return { load: () => held, save };
}

/**
 * `keyFile` empty: in memory only. Otherwise 32 bytes, made at the first start with mode 0600.
 * Throws EnvironmentError('sealing-key') for a file of another size or one that others may read.
 */
export function openVmState(stateFile: string, keyFile: string): VmState {
  if (keyFile === '') return { sealingKey: randomBytes(32), state: memoryState() };
  const file = openStateFile(keyFile);
  if (file.load() === null) file.save(randomBytes(32));
  const sealingKey = openStateFile(keyFile).load();
  if (sealingKey?.length !== 32 || (statSync(keyFile).mode & 0o077) !== 0)
    throw new EnvironmentError('sealing-key', `${keyFile} is not 32 bytes that only its owner may read`);
  return { sealingKey, state: openStateFile(stateFile) };
}
