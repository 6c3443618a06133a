// Which code runs, in the SIMULATED platform's own measure; on hardware the platform measures. Zone: trusted (in form only).
// Run from the single file, that is the file's SHA-256, as `npm run measure` prints it; run from the build's folder, SHA-256 over
// names and hashes of the compiled trusted files.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

export function measureTrustedCode(): Uint8Array {
  const self = fileURLToPath(import.meta.url);
  if (basename(self) !== 'measure.js') return sha256(readFileSync(self));
  const folder = join(self, '..', '..');
  const total = createHash('sha256');
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'));
  for (const name of files.sort()) total.update(`${name}\n`).update(sha256(readFileSync(join(folder, name))));
  return total.digest();
}
