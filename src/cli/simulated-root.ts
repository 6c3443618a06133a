// The root of a SIMULATED platform, as the owner pins it: base64url, or the evidence file of `distillock enclave` that carries it.
import { decodeBase64url } from '../trusted/wire/base64url.js';
import { readEvidenceFile } from './exchange-files.js';

/** Throws MalformedError or EnvironmentError when the file is none. */
export async function readSimulatedRoot(given: string): Promise<Uint8Array> {
  if (/^[A-Za-z0-9_-]{43}$/.test(given)) return decodeBase64url(given);
  return (await readEvidenceFile(given)).simulatedRoot;
}
