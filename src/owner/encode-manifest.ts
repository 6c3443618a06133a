// Bytes of manifest.json. Zone: owner. DESIGN section 5. How they are read is trusted code: wire/manifest.ts.
import { parseManifest } from '../model/bundle-manifest.js';
import { encodeCanonicalJson } from '../trusted/wire/canonical-json.js';
import type { Manifest } from '../trusted/wire/manifest.js';

/** Throws MalformedError when a field is out of range. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const bytes = encodeCanonicalJson(manifest);
  parseManifest(bytes);
  return bytes;
}
