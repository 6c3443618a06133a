// distillock ledger show: what this device relayed between its enclaves and the outside world, before and after unlock.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { CONFIG_KEYS } from '../../../edge/config.js';
import { bytesOut, type LedgerEntry } from '../../../edge/licence/ledger.js';
import { ledgerFileOf, readLedger } from '../../../edge/licence/ledger-file.js';
import { VerificationError } from '../../../trusted/wire/errors.js';
import { renderPairs, renderTable } from '../../table.js';
import { formatNumber } from '../../terminal.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface LedgerShowOptions {
  /** Only this bundle's; undefined: all. */
  readonly bundle: string | undefined;
  readonly enclaveStateDir: string;
}

export const ledgerShowHelp: VerbHelp<LedgerShowOptions> = {
  name: 'ledger show',
  summary: 'list what left this device and what came in, and check the chain (edge)',
  examples: [['distillock ledger show --bundle t.lock', 'one bundle; without it, all of them']],
  define(command: Command): void {
    const state = CONFIG_KEYS.enclave_state_dir;
    command
      .option('--bundle <folder>', "only this bundle's enclave (default: every enclave of this device)")
      .option('--enclave_state_dir <folder>', state.description, state.fallback);
  },
  parse(command: Command): LedgerShowOptions {
    const { bundle, enclave_state_dir } = command.opts<{ bundle?: string; enclave_state_dir: string }>();
    return { bundle, enclaveStateDir: enclave_state_dir };
  },
};

export const ledgerShow: Verb<LedgerShowOptions> = { ...ledgerShowHelp, run: runLedgerShow };

interface Totals {
  readonly bytesOut: number;
  readonly bytesIn: number;
  readonly messages: number;
}

/** What --json prints, one for each enclave. */
interface ShownLedger {
  readonly file: string;
  readonly entries: readonly LedgerEntry[];
  readonly beforeUnlock: Totals;
  readonly afterUnlock: Totals;
  readonly chain: 'verified';
}

const columns = [
  { title: 'time' },
  { title: '' },
  { title: 'purpose' },
  { title: 'host' },
  { title: 'bytes', numeric: true },
  { title: 'SHA-256 begins' },
  { title: 'unlocked' },
];

/** Throws VerificationError('ledger-chain') when a ledger was altered, after showing what is there. */
async function runLedgerShow(options: LedgerShowOptions, context: Context): Promise<readonly ShownLedger[]> {
  const shown: ShownLedger[] = [];
  const files = await ledgerFiles(options);
  if (files.length === 0) context.print('No ledger: nothing was relayed on this device.');
  let altered: VerificationError | null = null;
  for (const file of files) {
    const { entries, broken, tornBytes } = await readLedger(file);
    const part = (after: boolean): Totals => totalsOf(entries.filter(({ afterUnlock }) => afterUnlock === after));
    const [beforeUnlock, afterUnlock] = [part(false), part(true)];
    const torn = tornBytes === 0 ? '' : `; ${tornBytes} bytes at its end were cut short by a crash`;
    const chain = broken === null ? `verified${torn}` : `BROKEN at line ${broken.line}: ${broken.reason}`;
    const summary: [string, string][] = [
      ['ledger', file],
      ['before unlock', describeTotals(beforeUnlock)],
      ['after unlock', describeTotals(afterUnlock)],
      ['chain', chain],
    ];
    context.print(
      `${renderTable(columns, entries.map(rowOf), context.colour)}\n${renderPairs(summary, context.colour)}`,
    );
    if (broken !== null) {
      const message = `${file} was altered: line ${broken.line}: ${broken.reason}; what it says from there on proves nothing`;
      altered ??= new VerificationError('ledger-chain', message, { file, line: broken.line });
    }
    shown.push({ file, entries, beforeUnlock, afterUnlock, chain: 'verified' });
  }
  if (altered !== null) throw altered;
  context.print('Bytes are of message bodies. Lines missing at the end cannot be seen from the chain.');
  return shown;
}

async function ledgerFiles({ bundle, enclaveStateDir }: LedgerShowOptions): Promise<string[]> {
  const { stateFolder } = await import('../../../edge/enclave/state-folder.js');
  const names = await readdir(enclaveStateDir).catch((): string[] => []);
  const all = names.filter((name) => name.endsWith('.egress.jsonl')).sort();
  const files = all.map((name) => join(enclaveStateDir, name));
  if (bundle === undefined) return files;
  const wanted = ledgerFileOf(await stateFolder(enclaveStateDir, bundle));
  return files.filter((file) => file === wanted);
}

function rowOf({ time, direction, purpose, host, bytes, sha256, afterUnlock }: LedgerEntry): string[] {
  return [time, direction, purpose, host, formatNumber(bytes), sha256.slice(0, 16), afterUnlock ? 'yes' : 'no'];
}

function totalsOf(entries: readonly LedgerEntry[]): Totals {
  const out = bytesOut(entries);
  return { bytesOut: out, bytesIn: entries.reduce((sum, { bytes }) => sum + bytes, -out), messages: entries.length };
}

function describeTotals({ bytesOut: out, bytesIn, messages }: Totals): string {
  return `${formatNumber(out)} bytes out, ${formatNumber(bytesIn)} bytes in, ${formatNumber(messages)} messages`;
}
