// Evidence of any kind as bytes: what an enclave claims about itself, next to its platform's quote. Zone: owner (verifier).
// The enclave writes it with `encodeEvidence` (trusted/wire/report-data.ts).
import { encodeHex } from '../../trusted/wire/bytes.js';
import { Reader } from '../../trusted/wire/codec.js';
import { MAX_EVIDENCE_BYTES } from '../../trusted/wire/limits.js';
import type { Claims, Evidence } from '../../trusted/wire/report-data.js';

/** Throws MalformedError; says nothing about whether the evidence is true. */
export function decodeEvidence(bytes: Uint8Array): Evidence {
  const reader = new Reader(bytes.subarray(0, MAX_EVIDENCE_BYTES + 1));
  const claims: Claims = {
    kind: reader.text(),
    encryptionKey: reader.bytes(),
    signingKey: reader.bytes(),
    bundleId: encodeHex(reader.bytes()),
    ownerKey: reader.bytes(),
  };
  const evidence = { claims, quote: reader.bytes() };
  reader.end();
  return evidence;
}
