// The SIMULATED platform: same enclave program, no hardware behind it. Sealing key and quoting key lie in plain files of the
// state folder, so whoever owns the machine owns the enclave. For development and for the demo; it says so in every quote.
// Zone: trusted (in form only).
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PlatformPort } from '../enclave/port.js';
import { decodeBase64url, encodeBase64url } from '../wire/base64url.js';
import { encodeHex } from '../wire/bytes.js';
import { encodeCanonicalJson, parseCanonicalJson } from '../wire/canonical-json.js';
import { MalformedError } from '../wire/errors.js';
import { Fields } from '../wire/fields.js';
import { signJws } from '../wire/jws.js';
import { SEALED_PART } from '../wire/manifest.js';
import { loadGraph } from './runtime.js';
import { openStateFile } from './state-file.js';

export const SIMULATED_LABEL = 'SIMULATED: no hardware protects this enclave';
const PLATFORM_FILE = 'simulated-platform.json';

export interface SimulatedOptions {
  readonly bundleDir: string;
  readonly stateDir: string;
  readonly ownerKey: Uint8Array;
  readonly encryptionKey: Uint8Array;
  /** Bytes for weights and activations of enclave-held parts. */
  readonly memoryBytes: number;
}

export interface SimulatedPlatform {
  readonly port: PlatformPort;
  /** Ed25519 public key of the simulated quoting root; a verifier must pin it by hand. */
  readonly root: Uint8Array;
}

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

/** SHA-256 over names and hashes of the compiled trusted files: what a measured launch would measure. */
export function measureTrustedCode(): Uint8Array {
  const folder = fileURLToPath(new URL('..', import.meta.url));
  const total = createHash('sha256');
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'));
  for (const name of files.sort()) {
    total.update(`${name}\n`).update(
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest(),
    );
  }
  return total.digest();
}

/** As large as the largest piece so far: pieces are read again and again, and garbage would fill the enclave's memory. */
let range: Uint8Array = new Uint8Array(0);

/** Throws MalformedError when the file is shorter. */
function readRange(path: string, offset: number, length: number): Uint8Array {
  const file = openSync(path, 'r');
  try {
    if (range.length < length) range = new Uint8Array(length);
    const bytes = range.subarray(0, length);
    for (let at = 0; at < length; ) {
      const read = readSync(file, bytes, at, length - at, offset + at);
      if (read === 0) throw new MalformedError('sealed-segment', 'a sealed segment is cut short');
      at += read;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}

/** Reads bundle and state. Throws MalformedError for a broken platform file; missing bundle files surface as Node's errors. */
export function createSimulatedPlatform(options: SimulatedOptions): SimulatedPlatform {
  const { bundleDir, stateDir, ownerKey, encryptionKey, memoryBytes } = options;
  const keys = loadKeys(stateDir);
  const measurement = encodeHex(measureTrustedCode());
  const state = openStateFile(join(stateDir, 'sealed-state.bin'));
  function quote(reportData: Uint8Array): Uint8Array {
    const payload = { kind: 'simulated', label: SIMULATED_LABEL, measurement, reportData: encodeHex(reportData) };
    return Buffer.from(signJws('simulated-quote', encodeCanonicalJson(payload), keys.rootSecret, keys.root));
  }
  const port: PlatformPort = {
    kind: 'simulated',
    bundle: {
      manifest: readFileSync(join(bundleDir, 'manifest.json')),
      manifestJws: readFileSync(join(bundleDir, 'manifest.jws'), 'utf8').trim(),
      sealedPart: readFileSync(join(bundleDir, SEALED_PART)),
    },
    ownerKey,
    encryptionKey,
    sealingKey: keys.sealingKey,
    memoryBytes,
    readBundle: (path, offset, length) => readRange(join(bundleDir, path), offset, length),
    loadGraph,
    now: () => Math.floor(Date.now() / 1000),
    quote,
    loadState: state.load,
    saveState: state.save,
  };
  return { port, root: keys.root };
}
