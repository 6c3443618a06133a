// An enclave in this process: a signed manifest without files on disk, a fake platform with a clock to turn. Not a test itself.

import { createHash } from 'node:crypto';
import { decodeEvidence } from '../../src/attest/evidence/decode-evidence.js';
import { decodeError, decodeStatus } from '../../src/edge/enclave/decode-replies.js';
import { encodeAuthorise, encodeBegin, encodeRelease } from '../../src/edge/enclave/encode-requests.js';
import { encodeGrantContents, encodeLicence } from '../../src/owner/encode-grant.js';
import { encodeManifest } from '../../src/owner/encode-manifest.js';
import { createOwnerKeys, type OwnerKeys } from '../../src/owner/owner-keys.js';
import { sealPart } from '../../src/owner/seal-parts.js';
import { signDetached, signWithOwnerKey } from '../../src/owner/sign.js';
import { createEnclave, type Enclave } from '../../src/trusted/enclave/enclave.js';
import type { PlatformPort } from '../../src/trusted/enclave/port.js';
import type { Frame } from '../../src/trusted/wire/frame.js';
import { keyId } from '../../src/trusted/wire/jws.js';
import type { Licence } from '../../src/trusted/wire/licence.js';
import { bundleId } from '../../src/trusted/wire/manifest.js';
import * as messages from '../../src/trusted/wire/messages.js';
import type { EnclaveStatus } from '../../src/trusted/wire/status.js';

export const shape = { vocabSize: 50, hiddenSize: 8 };
export const NOW = 1_800_000_000;

export interface FakeBundle {
  readonly keys: OwnerKeys;
  readonly bundleId: string;
  readonly port: PlatformPort & { clock: number; state: Uint8Array | null; failSaves: boolean; saves: number };
}

export async function fakeBundle(keys: OwnerKeys = createOwnerKeys()): Promise<FakeBundle> {
  const sealedPart = sealPart({ lockSeed: keys.lockSeed }, keys.bundleKey, 'permutation', shape);
  const file = { size: sealedPart.length, sha256: createHash('sha256').update(sealedPart).digest('hex') };
  const manifest = encodeManifest({
    formatVersion: 1,
    createdBy: 'test',
    model: shape,
    scheme: 'permutation',
    quantize: 'none',
    plan: { embedding: 'accelerator', blocks: [], head: 'accelerator' },
    segments: [],
    files: [{ path: 'enclave.sealed', ...file }],
    ownerKeyId: keyId(keys.signingKey),
    tokenizerSha256: '0'.repeat(64),
  });
  const port: FakeBundle['port'] = {
    kind: 'simulated',
    bundle: { manifest, manifestJws: await signDetached('manifest', manifest, keys), sealedPart },
    ownerKey: keys.signingKey,
    encryptionKey: new Uint8Array(32).fill(9),
    sealingKey: new Uint8Array(32).fill(7),
    clock: NOW,
    state: null,
    failSaves: false,
    saves: 0,
    memoryBytes: 1e9,
    readBundle: () => {
      throw new Error('this bundle has no sealed segment');
    },
    loadGraph: () => Promise.reject(new Error('this bundle has no enclave-held part')),
    now: () => port.clock,
    quote: (data) => data,
    loadState: () => (port.state === null ? [] : [port.state]),
    saveState: (bytes) => {
      if (port.failSaves) throw new Error('disk full');
      port.state = bytes;
      port.saves++;
    },
  };
  return { keys, bundleId: bundleId(manifest), port };
}

/** Speaks to an enclave in this process: the reply's body, or the refusal as a string. */
export class Driver {
  readonly enclave: Enclave;
  readonly bundle: FakeBundle;
  constructor(bundle: FakeBundle) {
    this.bundle = bundle;
    this.enclave = createEnclave(bundle.port);
  }

  call(request: messages.RequestName, body: Uint8Array = new Uint8Array(0)): Uint8Array | string {
    const reply = this.handle({ type: messages.REQUEST[request], id: 1, body });
    return reply.type === messages.ERROR_REPLY ? decodeError(reply.body).refusal : reply.body;
  }

  /** A frame that is answered at once: everything but the requests to enclave-held parts. */
  handle(frame: Frame): Frame {
    const reply = this.enclave.handle(frame);
    if (reply instanceof Promise) throw new Error('answered later');
    return reply;
  }

  expect(request: messages.RequestName, body?: Uint8Array): Uint8Array {
    const reply = this.call(request, body);
    if (typeof reply === 'string') throw new Error(`${request}: ${reply}`);
    return reply;
  }

  status(): EnclaveStatus {
    return decodeStatus(this.expect('status'));
  }

  signingKey(): Uint8Array {
    return decodeEvidence(this.expect('attest', new Uint8Array(32))).claims.signingKey;
  }

  licence(changes: Partial<Licence> = {}): Licence {
    return {
      licenceId: 'licence-1',
      bundleId: this.bundle.bundleId,
      budgetTokens: 10,
      leaseTokens: 0,
      topK: 4,
      precision: 'float32',
      temperature: { min: 1, max: 2 },
      notBefore: NOW - 10,
      expires: NOW + 100,
      enclaveKeyId: keyId(this.signingKey()),
      ...changes,
    };
  }

  /** What HPKE opens: the body an unlock frame has when it reaches the enclave program. */
  async grant(changes: Partial<Licence> = {}, keys: OwnerKeys = this.bundle.keys): Promise<Uint8Array> {
    const licenceJws = await signWithOwnerKey('licence', encodeLicence(this.licence(changes)), keys);
    return encodeGrantContents({ bundleKey: this.bundle.keys.bundleKey, licenceJws });
  }

  begin(topK = 4, temperature = 1): Uint8Array | string {
    return this.call('begin', encodeBegin({ topK, temperature }));
  }

  session(): number {
    return messages.decodeSession(this.expect('begin', encodeBegin({ topK: 4, temperature: 1 })));
  }

  authorise(session: number, ids: readonly number[]): Uint8Array | string {
    return this.call('authorise', encodeAuthorise({ session, tokenIds: Int32Array.from(ids) }));
  }

  /** Releases `rows` rows of the locked ids 0 … k − 1. */
  release(session: number, rows: number, k = 2): Uint8Array | string {
    const lockedIds = Int32Array.from({ length: rows * k }, (_, i) => i % k);
    const logprobs = new Float32Array(rows * k).fill(-1);
    return this.call('release', encodeRelease({ session, rows, k, lockedIds, logprobs }));
  }
}
