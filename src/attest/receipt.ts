// Reads and verifies the receipt that an enclave signs when it destroys its keys. Zone: owner (verifier).
// Whoever only shows a receipt parses it; whoever relies on it verifies it with the key from appraised evidence.
import { decodeUtf8 } from '../trusted/wire/bytes.js';
import { parseCanonicalJson } from '../trusted/wire/canonical-json.js';
import { Fields } from '../trusted/wire/fields.js';
import { type PublicKeyBytes, verifyJws } from '../trusted/wire/jws.js';
import { MAX_LICENCES, MAX_RECEIPT_BYTES } from '../trusted/wire/limits.js';
import type { Receipt } from '../trusted/wire/receipt.js';

/** Throws MalformedError on anything but a receipt's canonical JSON. */
export function parseReceipt(bytes: Uint8Array): Receipt {
  const fields = new Fields(parseCanonicalJson(bytes, MAX_RECEIPT_BYTES), 'receipt');
  const receipt: Receipt = {
    bundleId: fields.text('bundleId', /^[0-9a-f]{64}$/),
    enclaveKeyId: fields.text('enclaveKeyId', /^[A-Za-z0-9_-]{43}$/),
    platform: fields.text('platform', /^[a-z0-9-]{1,32}$/),
    licences: fields.list('licences', MAX_LICENCES).map((item) => {
      const entry = new Fields(item, 'receipt.licences');
      const read = {
        licenceId: entry.text('licenceId', /^[A-Za-z0-9_-]{1,64}$/),
        budgetTokens: entry.integer('budgetTokens', 1, Number.MAX_SAFE_INTEGER),
        chargedTokens: entry.integer('chargedTokens', 0, Number.MAX_SAFE_INTEGER),
      };
      entry.end();
      return read;
    }),
    reason: fields.choice('reason', ['requested', 'exhausted', 'expired']),
    time: fields.integer('time', 0, Number.MAX_SAFE_INTEGER),
  };
  fields.end();
  return receipt;
}

/** Checks the signature with the key from the enclave's appraised evidence. Throws MalformedError or VerificationError. */
export function verifyReceipt(jws: Uint8Array, enclaveSigningKey: PublicKeyBytes): Receipt {
  return parseReceipt(verifyJws('receipt', decodeUtf8(jws), enclaveSigningKey));
}
