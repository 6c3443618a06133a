// Recorded quotes of real hardware and how to verify each: what a licence service spends on evidence of every kind.
// The quotes and their collateral are the vectors of the attestation tests; `now` is when they were good.
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseDcapCollateral } from '../../src/attest/dcap/collateral.js';
import { verifyQuote } from '../../src/attest/evidence/verify-evidence.js';
import { VENDOR_ROOTS } from '../../src/attest/policy/trust-roots.js';

const vectors = fileURLToPath(new URL('../../../test/fixtures/attestation/', import.meta.url));

async function read(name: string): Promise<Uint8Array> {
  return new Uint8Array(await readFile(`${vectors}${name}`));
}

async function dcap(kind: 'sgx' | 'tdx', quote: string, collateral: string, now: number): Promise<() => unknown> {
  const bytes = await read(quote);
  const parsed = parseDcapCollateral(Buffer.from(await read(collateral)).toString('utf8'));
  return () => verifyQuote(kind, bytes, { now, roots: VENDOR_ROOTS, collateral: { dcap: [parsed] } });
}

export function prepareSgx(): Promise<() => unknown> {
  return dcap('sgx', 'sgx/quote-v3-00a067.bin', 'sgx/collateral-00a067.json', 1751624924);
}

export function prepareTdx(): Promise<() => unknown> {
  return dcap('tdx', 'tdx/quote-v4-00806f.bin', 'tdx/collateral-00806f.json', 1753175614);
}

export async function prepareSnp(): Promise<() => unknown> {
  const bytes = await read('snp/report-milan.bin');
  const snp = { leaf: await read('snp/vcek-milan.der'), chain: [await read('snp/chain-milan.pem')] };
  return () => verifyQuote('snp', bytes, { now: 1748736000, roots: VENDOR_ROOTS, collateral: { snp } });
}
