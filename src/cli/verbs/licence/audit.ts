// distillock licence audit: recomputes the audit log's hash chain and shows the log. Run by the model owner.
import type { Command } from 'commander';
import type { AuditEntry, AuditHead } from '../../../owner/store/audit.js';
import { databaseOption, withLicences } from '../../licence-admin.js';
import { showTime } from '../../licence-terms.js';
import { renderTable } from '../../table.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface LicenceAuditOptions {
  readonly database: string;
}

export const licenceAuditHelp: VerbHelp<LicenceAuditOptions> = {
  name: 'licence audit',
  summary: 'check and show the audit log (owner)',
  examples: [['distillock licence audit --database ./licences', 'note the last hash: it shows later rewriting']],
  define(command: Command): void {
    databaseOption(command);
  },
  parse: (command: Command): LicenceAuditOptions => command.opts<LicenceAuditOptions>(),
};

export const licenceAudit: Verb<LicenceAuditOptions> = { ...licenceAuditHelp, run: runAudit };

async function runAudit(
  { database }: LicenceAuditOptions,
  context: Context,
): Promise<{ readonly head: AuditHead; readonly entries: readonly AuditEntry[] }> {
  const { head, entries } = await withLicences(database, (admin) => admin.audit());
  const rows = entries.map(({ time, event, subject, details }) => {
    const text = Object.entries(details).filter(([, value]) => value !== '');
    return [showTime(time), event, subject, text.map(([name, value]) => `${name} ${value}`).join(', ')];
  });
  const columns = [{ title: 'time' }, { title: 'event' }, { title: 'licence' }, { title: 'details' }];
  context.print(renderTable(columns, rows, context.colour));
  context.print(`${head.position} entries in the chain, all hold; last hash ${head.hash}`);
  return { head, entries };
}
