// distillock licence list: every licence in a table. Run by the model owner.
import type { Command } from 'commander';
import type { LicenceRecord } from '../../../owner/store/licence-records.js';
import { databaseOption, withLicences } from '../../licence-admin.js';
import { showTime } from '../../licence-terms.js';
import { renderTable } from '../../table.js';
import { formatNumber } from '../../terminal.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface LicenceListOptions {
  readonly database: string;
}

export const licenceListHelp: VerbHelp<LicenceListOptions> = {
  name: 'licence list',
  summary: 'list licences, newest first (owner)',
  examples: [['distillock licence list --database ./licences', 'all of them']],
  define(command: Command): void {
    databaseOption(command);
  },
  parse: (command: Command): LicenceListOptions => command.opts<LicenceListOptions>(),
};

export const licenceList: Verb<LicenceListOptions> = { ...licenceListHelp, run: runList };

async function runList(
  { database }: LicenceListOptions,
  context: Context,
): Promise<{ readonly licences: readonly LicenceRecord[] }> {
  const licences = await withLicences(database, (admin) => admin.list());
  if (licences.length === 0) {
    context.print('no licences yet; distillock licence issue makes one');
    return { licences };
  }
  const columns = [
    ...['licence', 'label', 'bundle', 'state'].map((title) => ({ title })),
    ...['budget', 'leased', 'devices'].map((title) => ({ title, numeric: true })),
    { title: 'expires' },
  ];
  const rows = licences.map((licence) => [
    licence.licenceId,
    licence.label,
    licence.bundleId.slice(0, 12),
    licence.state,
    formatNumber(licence.budgetTokens),
    licence.leaseTokens === 0 ? '' : formatNumber(licence.leasedTokens),
    `${licence.devices}/${licence.maxDevices}`,
    showTime(licence.expires),
  ]);
  context.print(renderTable(columns, rows, context.colour));
  return { licences };
}
