// distillock destroy: the enclave forgets the teacher for good and signs a receipt that the owner can check.

import { rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { parseReceipt } from '../../attest/receipt.js';
import { CONFIG_KEYS } from '../../edge/config.js';
import { writeFileAtomic } from '../../model/files.js';
import type { Manifest } from '../../trusted/wire/manifest.js';
import type { Receipt } from '../../trusted/wire/receipt.js';
import { UsageError } from '../errors.js';
import { renderPairs, renderTable } from '../table.js';
import { formatNumber } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface DestroyVerbOptions {
  readonly bundle: string;
  /** Owner's public key; undefined: the pinned one. */
  readonly ownerKey: string | undefined;
  readonly enclaveStateDir: string;
  readonly receipt: string;
  /** Also delete the bundle's files. */
  readonly deleteBundle: boolean;
}

interface Raw {
  readonly bundle: string;
  readonly owner_key: string | undefined;
  readonly enclave_state_dir: string;
  readonly receipt: string;
  readonly deleteBundle?: true;
  readonly yes?: true;
}

export const destroyHelp: VerbHelp<DestroyVerbOptions> = {
  name: 'destroy',
  summary: 'destroy the teacher in the enclave and get a signed receipt (edge)',
  examples: [['distillock destroy --bundle t.lock --receipt t.receipt --yes', 'cannot be undone']],
  define(command: Command): void {
    const state = CONFIG_KEYS.enclave_state_dir;
    command
      .requiredOption('--bundle <folder>', 'bundle whose teacher is destroyed')
      .option('--owner_key <file>', "owner's public key (default: the one that `distillock enclave` pinned)")
      .requiredOption('--receipt <file>', 'receipt to write')
      .option('--enclave_state_dir <folder>', state.description, state.fallback)
      .option('--delete-bundle', "also delete the bundle's files")
      .option('--yes', 'really do it: what is left of the budget is lost');
  },
  parse(command: Command): DestroyVerbOptions {
    const { bundle, owner_key, enclave_state_dir, receipt, deleteBundle, yes } = command.opts<Raw>();
    if (yes !== true) throw new UsageError('usage', 'destroying a teacher cannot be undone; add --yes if you mean it');
    const options = { bundle, ownerKey: owner_key, enclaveStateDir: enclave_state_dir, receipt };
    return { ...options, deleteBundle: deleteBundle === true };
  },
};

export const destroy: Verb<DestroyVerbOptions> = { ...destroyHelp, run: runDestroy };

/** What --json prints. */
interface DestroyResult {
  readonly receipt: Receipt;
  readonly file: string;
  readonly bundleDeleted: boolean;
}

async function runDestroy(options: DestroyVerbOptions, context: Context): Promise<DestroyResult> {
  const { openTeacher } = await import('../open-teacher.js');
  const teacher = await openTeacher(options, context);
  try {
    const jws = await teacher.client.destroy();
    // Asking again gives the same receipt, so a full disk here loses nothing.
    await writeFileAtomic(options.receipt, jws, '\n');
    const payload = new TextDecoder().decode(jws).split('.')[1] ?? '';
    const receipt = parseReceipt(new Uint8Array(Buffer.from(payload, 'base64url')));
    showReceipt(receipt, options, context);
    if (options.deleteBundle) await deleteBundle(options.bundle, teacher.bundle.manifest);
    if (options.deleteBundle) context.print(`Deleted the files of ${options.bundle}.`);
    return { receipt, file: options.receipt, bundleDeleted: options.deleteBundle };
  } finally {
    await teacher.close();
  }
}

/** The files that belong to the bundle; anything else in the folder stays, and then the folder does. */
async function deleteBundle(dir: string, manifest: Manifest): Promise<void> {
  const paths = [...manifest.files.map(({ path }) => path), 'manifest.jws', 'manifest.json'];
  for (const path of paths) await rm(join(dir, path), { force: true });
  for (const folder of [join(dir, 'segments'), dir]) await rmdir(folder).catch(() => undefined);
}

function showReceipt(receipt: Receipt, options: DestroyVerbOptions, context: Context): void {
  const rows: [string, string][] = [
    ['destroyed', new Date(receipt.time * 1000).toISOString().replace('.000', '')],
    [
      'platform',
      `${receipt.platform.toUpperCase()}${receipt.platform === 'simulated' ? ': the receipt proves nothing about hardware' : ''}`,
    ],
    ['reason', receipt.reason],
    ['bundle id', receipt.bundleId],
    ['enclave key', receipt.enclaveKeyId],
  ];
  context.print(renderPairs(rows, context.colour));
  const columns = [{ title: 'licence' }, { title: 'budget', numeric: true }, { title: 'charged', numeric: true }];
  const licences = receipt.licences.map(({ licenceId, budgetTokens, chargedTokens }) => [
    licenceId,
    formatNumber(budgetTokens),
    formatNumber(chargedTokens),
  ]);
  context.print(
    licences.length === 0 ? 'The enclave never had a licence.' : `\n${renderTable(columns, licences, context.colour)}`,
  );
  context.print(
    `Receipt signed by the enclave: ${options.receipt}. Send it to the owner, who has the key in the evidence.`,
  );
}
