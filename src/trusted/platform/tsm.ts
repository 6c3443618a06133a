// Confidential VMs: TDX quotes and SEV-SNP reports through configfs-tsm (Linux 6.7 and later). Zone: trusted.
// Source: the kernel's Documentation/ABI/testing/configfs-tsm and drivers/virt/coco/tsm.c. Not run on hardware.
// Every attempt has a folder of its own; its generation must have moved by our writes only, and the folder is removed in any case.
import { randomBytes } from 'node:crypto';
import { concatBytes, decodeUtf8, encodeHex, encodeUtf8 } from '../wire/bytes.js';
import { EnvironmentError } from '../wire/errors.js';
import { type DeviceFiles, deviceFiles } from './device-files.js';
import { type Adapter, checkQuoted } from './open-port.js';
import type { VmState } from './vm-state.js';

export const TSM_ROOT = '/sys/kernel/config/tsm/report';
const ATTEMPTS = 5;
/** The kernel is busy with somebody else's write or read. */
const AGAIN: readonly unknown[] = ['EBUSY', 'EAGAIN', 'EINTR'];
const SNP_REPORT_BYTES = 1184;
const SNP_REPORT_DATA_AT = 0x50;
/** report_data at 520 of the TD report body, after a header of 48 bytes and, since version 5, type and size of the body. */
const TDX_REPORT_DATA_AT: Readonly<Record<number, number>> = { 4: 48 + 520, 5: 48 + 6 + 520 };

/**
 * A quote (TDX), or a report followed by its certificate table, which may be empty (SNP), from a folder of its own; null when
 * somebody else wrote there as well.
 */
function tryQuote(kind: 'tdx' | 'snp', reportData: Uint8Array, files: DeviceFiles, root: string): Uint8Array | null {
  const folder = `${root}/distillock-${encodeHex(randomBytes(8))}`;
  try {
    files.makeDir(folder);
  } catch (cause) {
    throw new EnvironmentError('platform-missing', 'no confidential VM, or not root', {}, cause);
  }
  const text = (name: string): string => decodeUtf8(files.read(`${folder}/${name}`)).trim();
  try {
    const provider = text('provider');
    if (provider !== (kind === 'tdx' ? 'tdx_guest' : 'sev_guest'))
      throw new EnvironmentError('tsm-provider', `the kernel's provider is ${provider}, which is not ${kind}`);
    const before = BigInt(text('generation'));
    files.write(`${folder}/inblob`, reportData);
    // The floor is the privilege level (VMPL) that this VM runs at; a level below it is refused.
    if (kind === 'snp') files.write(`${folder}/privlevel`, encodeUtf8(text('privlevel_floor')));
    const outblob = files.read(`${folder}/outblob`);
    const auxblob = kind === 'snp' ? files.read(`${folder}/auxblob`) : new Uint8Array(0);
    // An unsigned long that wraps around.
    const writes = BigInt.asUintN(64, BigInt(text('generation')) - before);
    if (writes !== (kind === 'snp' ? 2n : 1n)) return null;
    const offset = kind === 'snp' ? SNP_REPORT_DATA_AT : TDX_REPORT_DATA_AT[outblob[0] ?? 0];
    if (offset === undefined || (kind === 'snp' && outblob.length !== SNP_REPORT_BYTES))
      throw new EnvironmentError('quote-form', `the kernel's report is none of ${kind} that this version knows`);
    checkQuoted(outblob, offset, reportData);
    return concatBytes(outblob, auxblob);
  } catch (cause) {
    if (AGAIN.includes((cause as { code?: unknown }).code)) return null;
    if (cause instanceof EnvironmentError) throw cause;
    throw new EnvironmentError('quote-failed', 'the kernel gave no attestation report', {}, cause);
  } finally {
    files.removeDir(folder);
  }
}

/** The adapter of a confidential VM. Whether the kernel can quote shows at the first quote. */
export function openTsm(
  kind: 'tdx' | 'snp',
  { sealingKey, state }: VmState,
  files: DeviceFiles = deviceFiles,
  root: string = TSM_ROOT,
): Adapter {
  function quote(reportData: Uint8Array): Uint8Array {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const quoted = tryQuote(kind, reportData, files, root);
      if (quoted !== null) return quoted;
    }
    throw new EnvironmentError('quote-contended', 'somebody else kept writing to the attestation request');
  }
  return { kind, sealingKey, state, quote };
}
