// Bytes of a licence and of a grant, before and after sealing. Zone: owner.
// The other half, how the enclave reads them, is trusted code: wire/licence.ts and wire/grant.ts.
import { encodeCanonicalJson } from '../trusted/wire/canonical-json.js';
import { Writer } from '../trusted/wire/codec.js';
import type { GrantContents, SealedGrant } from '../trusted/wire/grant.js';
import { type Licence, parseLicence } from '../trusted/wire/licence.js';

/** The bytes that the owner signs. Throws MalformedError when a term is out of range. */
export function encodeLicence(licence: Licence): Uint8Array {
  const bytes = encodeCanonicalJson(licence);
  parseLicence(bytes);
  return bytes;
}

/** What HPKE seals. */
export function encodeGrantContents(contents: GrantContents): Uint8Array {
  return new Writer().raw(contents.bundleKey).text(contents.licenceJws).finish();
}

export function encodeSealedGrant(grant: SealedGrant): Uint8Array {
  return new Writer().bytes(grant.encapsulated).bytes(grant.ciphertext).finish();
}
