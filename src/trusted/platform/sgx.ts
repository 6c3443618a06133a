// Intel SGX under Gramine: DCAP quotes from /dev/attestation, sealing key bound to this enclave's measurement. Zone: trusted.
// Source: Gramine's attestation documentation and libos/src/fs/dev/attestation.c. Not run on hardware.
// The pseudo-files know one report data per process: no call here yields between the write and the read.
import { hkdfSync } from 'node:crypto';
import { decodeUtf8, encodeUtf8 } from '../wire/bytes.js';
import { EnvironmentError } from '../wire/errors.js';
import { type DeviceFiles, deviceFiles } from './device-files.js';
import { type Adapter, checkQuoted } from './open-port.js';
import type { StateFile } from './state-file.js';

/** report_data in a quote v3: 48 bytes of header, then at 320 of the report body. */
const REPORT_DATA_AT = 48 + 320;
/** EGETKEY's key, stretched to the 32 bytes that sealing takes. */
const SGX_KEY_BYTES = 16;

/** Throws EnvironmentError('platform-missing' | 'attestation-type' | 'sealing-key'). */
export function openSgx(state: StateFile, files: DeviceFiles = deviceFiles, root = '/dev/attestation'): Adapter {
  let type: string;
  try {
    type = decodeUtf8(files.read(`${root}/attestation_type`)).trim();
  } catch (cause) {
    throw new EnvironmentError('platform-missing', 'this is no Gramine enclave on SGX', {}, cause);
  }
  if (type !== 'dcap')
    throw new EnvironmentError('attestation-type', `Gramine's manifest says attestation ${type}, not dcap`);
  const key = files.read(`${root}/keys/_sgx_mrenclave`);
  if (key.length !== SGX_KEY_BYTES)
    throw new EnvironmentError('sealing-key', 'Gramine offers no sealing key _sgx_mrenclave of 16 bytes');
  const info = encodeUtf8('distillock sealing key v1 sgx');
  const sealingKey = new Uint8Array(hkdfSync('sha256', key, new Uint8Array(0), info, 32));
  function quote(reportData: Uint8Array): Uint8Array {
    files.write(`${root}/user_report_data`, reportData);
    const bytes = files.read(`${root}/quote`);
    checkQuoted(bytes, REPORT_DATA_AT, reportData);
    return bytes;
  }
  return { kind: 'sgx', sealingKey, state, quote };
}
