// A receipt as the verbs read and show it. What it says counts only after its signature was checked (`receipt verify`).
import { readFile } from 'node:fs/promises';
import { parseReceipt } from '../attest/receipt.js';
import { describeFileError } from '../model/files.js';
import { decodeBase64url } from '../trusted/wire/base64url.js';
import { MalformedError } from '../trusted/wire/errors.js';
import { MAX_RECEIPT_BYTES } from '../trusted/wire/limits.js';
import type { Receipt } from '../trusted/wire/receipt.js';
import { renderPairs, renderTable } from './table.js';
import { formatNumber } from './terminal.js';

/** The compact JWS in `file`, without the line break at its end. Throws MalformedError('receipt-file'). */
export async function readReceiptFile(file: string): Promise<Uint8Array> {
  const bytes = await readFile(file).catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  const text = bytes.toString('latin1').trim();
  if (bytes.length <= 2 * MAX_RECEIPT_BYTES && /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text))
    return new TextEncoder().encode(text);
  throw new MalformedError('receipt-file', `${file} is no receipt of \`distillock destroy\``, { file });
}

/** What a receipt says; its signature is not checked. Throws MalformedError. */
export function readReceipt(jws: Uint8Array): Receipt {
  return parseReceipt(decodeBase64url(new TextDecoder().decode(jws).split('.')[1] ?? ''));
}

/** Fields, then one line per licence. */
export function renderReceipt(receipt: Receipt, colour: boolean): string {
  const simulated = receipt.platform === 'simulated' ? ': the receipt proves nothing about hardware' : '';
  const rows: [string, string][] = [
    ['destroyed', new Date(receipt.time * 1000).toISOString().replace('.000', '')],
    ['platform', `${receipt.platform.toUpperCase()}${simulated}`],
    ['reason', receipt.reason],
    ['bundle id', receipt.bundleId],
    ['enclave key', receipt.enclaveKeyId],
  ];
  const columns = [{ title: 'licence' }, { title: 'budget', numeric: true }, { title: 'charged', numeric: true }];
  const licences = receipt.licences.map(({ licenceId, budgetTokens, chargedTokens }) => [
    licenceId,
    formatNumber(budgetTokens),
    formatNumber(chargedTokens),
  ]);
  const below =
    licences.length === 0 ? 'The enclave never had a licence.\n' : `\n${renderTable(columns, licences, colour)}`;
  return renderPairs(rows, colour) + below;
}
