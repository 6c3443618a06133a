// A device as the licence service sees it, without the enclave process: keys, SIMULATED evidence, lease requests, a receipt.
// It opens grants with the enclave's own code, so what it accepts an enclave would open.
import { randomBytes } from 'node:crypto';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { createGrantOpener } from '../../src/trusted/platform/hpke.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { encodeHex, encodeUtf8 } from '../../src/trusted/wire/bytes.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import { decodeGrantContents, type GrantContents } from '../../src/trusted/wire/grant.js';
import { keyId, signJws } from '../../src/trusted/wire/jws.js';
import type { ReceiptEntry } from '../../src/trusted/wire/receipt.js';
import { type Claims, encodeEvidence, reportData } from '../../src/trusted/wire/report-data.js';

/** The bundle that everything here is about. */
export const BUNDLE: string = 'cd'.repeat(32);
const MEASUREMENT = 'ab'.repeat(32);

/** A root that signs simulated quotes. */
export interface SimulatedRoot {
  readonly signingKey: Uint8Array;
  readonly signingSecret: Uint8Array;
}

export interface Device {
  readonly enclaveKeyId: string;
  readonly claims: Claims;
  evidence(nonce: Uint8Array): Uint8Array;
  /** Throws when the grant is sealed to another device or was altered. */
  open(grant: Uint8Array): Promise<GrantContents>;
  leaseRequest(licenceId: string, options?: { readonly nonce?: string; readonly chargedTokens?: number }): string;
  receipt(licences: readonly ReceiptEntry[]): string;
}

export function createSimulatedRoot(): SimulatedRoot {
  return createOwnerKeys();
}

export async function createDevice(options: {
  readonly root: SimulatedRoot;
  readonly bundleId: string;
  readonly ownerKey: Uint8Array;
}): Promise<Device> {
  const { root, bundleId, ownerKey } = options;
  const { signingKey, signingSecret } = createOwnerKeys();
  const opener = await createGrantOpener();
  const claims: Claims = { kind: 'simulated', encryptionKey: opener.encryptionKey, signingKey, bundleId, ownerKey };
  const enclaveKeyId = keyId(signingKey);
  return {
    enclaveKeyId,
    claims,
    evidence: (nonce) => simulatedEvidence(root, claims, nonce),
    open: async (grant) => decodeGrantContents(await opener.open(grant, bundleId)),
    leaseRequest(licenceId, { nonce = encodeBase64url(randomBytes(32)), chargedTokens = 0 } = {}) {
      const request = { licenceId, enclaveKeyId, nonce, chargedTokens };
      return signJws('lease-request', encodeCanonicalJson(request), signingSecret, signingKey);
    },
    receipt(licences) {
      const time = Math.floor(Date.now() / 1000);
      const receipt = { bundleId, enclaveKeyId, platform: 'simulated', licences, reason: 'requested', time };
      return signJws('receipt', encodeCanonicalJson(receipt), signingSecret, signingKey);
    },
  };
}

/** `claimed` may differ from what is quoted: a forgery. */
export function simulatedEvidence(
  root: SimulatedRoot,
  quoted: Claims,
  nonce: Uint8Array,
  claimed: Claims = quoted,
): Uint8Array {
  const payload = {
    kind: 'simulated',
    label: 'SIMULATED: test device',
    measurement: MEASUREMENT,
    reportData: encodeHex(reportData(quoted, nonce)),
  };
  const quote = signJws('simulated-quote', encodeCanonicalJson(payload), root.signingSecret, root.signingKey);
  return encodeEvidence({ claims: claimed, quote: encodeUtf8(quote) });
}
