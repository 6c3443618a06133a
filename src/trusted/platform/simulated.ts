// The SIMULATED platform: same enclave program, no hardware behind it. Sealing key and quoting key lie in plain files of the
// state folder, so whoever owns the machine owns the enclave. For development and for the demo; it says so in every quote.
// Zone: trusted (in form only).
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeBase64url, encodeBase64url } from '../wire/base64url.js';
import { encodeHex } from '../wire/bytes.js';
import { encodeCanonicalJson, parseCanonicalJson } from '../wire/canonical-json.js';
import { Fields } from '../wire/fields.js';
import { signJws } from '../wire/jws.js';
import { measureTrustedCode } from './measure.js';
import type { Adapter } from './open-port.js';
import type { StateFile } from './state-file.js';

export const SIMULATED_LABEL = 'SIMULATED: no hardware protects this enclave';
const PLATFORM_FILE = 'simulated-platform.json';

interface PlatformKeys {
  readonly sealingKey: Uint8Array;
  readonly rootSecret: Uint8Array;
  readonly root: Uint8Array;
}

function createKeys(path: string): void {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  const sealingKey = encodeBase64url(randomBytes(32));
  const record = { root: jwk.x, rootSecret: jwk.d, sealingKey, warning: SIMULATED_LABEL };
  writeFileSync(path, encodeCanonicalJson(record), { mode: 0o600, flag: 'wx' });
}

function loadKeys(stateDir: string): PlatformKeys {
  const path = join(stateDir, PLATFORM_FILE);
  if (!existsSync(path)) createKeys(path);
  const fields = new Fields(parseCanonicalJson(readFileSync(path), 4096), PLATFORM_FILE);
  const key = (name: string): Uint8Array => decodeBase64url(fields.text(name, /^[A-Za-z0-9_-]{43}$/));
  return { sealingKey: key('sealingKey'), rootSecret: key('rootSecret'), root: key('root') };
}

/** Throws MalformedError for a broken platform file. */
export function openSimulated(state: StateFile, stateDir: string): Adapter {
  const { sealingKey, rootSecret, root } = loadKeys(stateDir);
  const measurement = encodeHex(measureTrustedCode());
  function quote(reportData: Uint8Array): Uint8Array {
    const payload = { kind: 'simulated', label: SIMULATED_LABEL, measurement, reportData: encodeHex(reportData) };
    return Buffer.from(signJws('simulated-quote', encodeCanonicalJson(payload), rootSecret, root));
  }
  return { kind: 'simulated', sealingKey, state, quote, root };
}
