// Collateral from files: Intel's as JSON, AMD's chains as PEM and revocation lists as DER. Zone: owner (verifier).
// Every file is believed only as far as its signatures hold, so a folder may be filled by anybody, from anywhere.
import { readdir, readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { DistillockError, EnvironmentError, MalformedError } from '../../trusted/wire/errors.js';
import { type DcapCollateral, parseDcapCollateral } from '../dcap/collateral.js';
import { parseTcbInfo } from '../dcap/tcb-info.js';
import type { Collateral } from './collateral.js';

/** Of a file, or of a folder's *.json (Intel), *.pem (AMD chains) and *.crl (AMD's list). Throws naming the file. */
export async function readCollateral(path: string): Promise<Collateral> {
  const names = (await isFolder(path)) ? (await readdir(path)).sort().map((name) => join(path, name)) : [path];
  const dcap: DcapCollateral[] = [];
  const chain: Uint8Array[] = [];
  const lists: Uint8Array[] = [];
  for (const file of names) {
    const type = extname(file).toLowerCase();
    if (type === '.json') dcap.push(parseNamed(file, Buffer.from(await readBytes(file)).toString('utf8')));
    else if (type === '.pem') chain.push(await readBytes(file));
    else if (type === '.crl') lists.push(await readBytes(file));
    else if (names.length === 1 && file === path)
      throw new MalformedError('collateral', `${file}: collateral is .json (Intel), .pem or .crl (AMD)`, { file });
  }
  const [crl, second] = lists;
  if (second !== undefined)
    throw new MalformedError('collateral', `${path} has more than one .crl; keep the one for your product`, { path });
  return { dcap, snp: { chain, ...(crl === undefined ? {} : { crl }) } };
}

/** Throws EnvironmentError ('collateral-read'). */
export async function readBytes(file: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(file));
  } catch (cause) {
    throw unreadable(file, cause);
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

function unreadable(file: string, cause: unknown): EnvironmentError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
  return new EnvironmentError('collateral-read', `cannot read ${file} (${code})`, { file }, cause);
}

function parseNamed(file: string, text: string): DcapCollateral {
  try {
    const collateral = parseDcapCollateral(text);
    // Not believed yet; but what cannot be read is better said here, with the file's name.
    parseTcbInfo(collateral.tcb_info);
    return collateral;
  } catch (error) {
    if (!(error instanceof DistillockError)) throw error;
    throw new MalformedError(error.code, `${file} is no collateral of Intel: ${error.message}`, { file }, error);
  }
}
