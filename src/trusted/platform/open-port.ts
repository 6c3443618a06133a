// The port of every platform: the bundle's files, the clock and the runtime are the same; an adapter adds what differs. Zone: trusted.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { PlatformPort } from '../enclave/port.js';
import { equalBytes } from '../wire/bytes.js';
import { EnvironmentError, MalformedError } from '../wire/errors.js';
import { SEALED_PART } from '../wire/manifest.js';
import { loadGraph } from './runtime.js';
import type { StateFile } from './state-file.js';

export interface PortOptions {
  readonly bundleDir: string;
  readonly ownerKey: Uint8Array;
  readonly encryptionKey: Uint8Array;
  /** Bytes for weights and activations of enclave-held parts. */
  readonly memoryBytes: number;
}

/** What one platform does in its own way. */
export interface Adapter {
  readonly kind: 'simulated' | 'sgx' | 'tdx' | 'snp';
  readonly sealingKey: Uint8Array;
  readonly state: StateFile;
  /** The platform's evidence over 64 bytes, in its own format. Throws EnvironmentError. */
  quote(reportData: Uint8Array): Uint8Array;
  /** SIMULATED: Ed25519 public key of its quoting root; a verifier must pin it by hand. */
  readonly root?: Uint8Array;
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

/** Reads the bundle; files that are missing surface as Node's errors. */
export function openPort(options: PortOptions, adapter: Adapter): PlatformPort {
  const { bundleDir, ownerKey, encryptionKey, memoryBytes } = options;
  return {
    kind: adapter.kind,
    bundle: {
      manifest: readFileSync(join(bundleDir, 'manifest.json')),
      manifestJws: readFileSync(join(bundleDir, 'manifest.jws'), 'utf8').trim(),
      sealedPart: readFileSync(join(bundleDir, SEALED_PART)),
    },
    ownerKey,
    encryptionKey,
    sealingKey: adapter.sealingKey,
    memoryBytes,
    readBundle: (path, offset, length) => readRange(join(bundleDir, path), offset, length),
    loadGraph,
    now: () => Math.floor(Date.now() / 1000),
    quote: adapter.quote,
    loadState: adapter.state.load,
    saveState: adapter.state.save,
  };
}

/** A quote that is not over our bytes is another caller's or a stale one. Throws EnvironmentError('quote-other'). */
export function checkQuoted(quote: Uint8Array, offset: number, reportData: Uint8Array): void {
  if (!equalBytes(quote.subarray(offset, offset + reportData.length), reportData))
    throw new EnvironmentError('quote-other', 'the platform answered with a quote over other bytes, or a short one');
}
