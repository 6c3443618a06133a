// distillock licence show: one licence with its devices, receipts and history. Run by the model owner.
import type { Command } from 'commander';
import type { LicenceHistory } from '../../../owner/service/licences.js';
import type { AuditEntry } from '../../../owner/store/audit.js';
import { databaseOption, withLicences } from '../../licence-admin.js';
import { showTime } from '../../licence-terms.js';
import { renderPairs, renderTable } from '../../table.js';
import { formatNumber } from '../../terminal.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';
import { termRows } from './issue.js';

export interface LicenceShowOptions {
  readonly database: string;
  readonly licenceId: string;
}

export const licenceShowHelp: VerbHelp<LicenceShowOptions> = {
  name: 'licence show',
  summary: 'show a licence: terms, devices, receipts, history (owner)',
  examples: [['distillock licence show 6f1c…', 'by the id that `licence list` prints']],
  define(command: Command): void {
    databaseOption(command.argument('<licence>', 'id of the licence'));
  },
  parse(command: Command): LicenceShowOptions {
    return { ...command.opts<{ readonly database: string }>(), licenceId: command.args[0]! };
  },
};

export const licenceShow: Verb<LicenceShowOptions> = { ...licenceShowHelp, run: runShow };

async function runShow({ database, licenceId }: LicenceShowOptions, context: Context): Promise<LicenceHistory> {
  const history = await withLicences(database, (admin) => admin.show(licenceId));
  const { licence, seats, receipts, audit } = history;
  context.print(renderPairs(termRows(licence), context.colour));
  if (seats.length > 0) {
    const columns = [
      { title: 'device' },
      { title: 'platform' },
      { title: 'since' },
      { title: 'closed' },
      { title: 'used', numeric: true },
    ];
    const rows = seats.map(({ enclaveKeyId, platform, firstSeen, closed, chargedTokens }) => [
      enclaveKeyId,
      platformKind(platform),
      showTime(firstSeen),
      closed === null ? '' : showTime(closed),
      chargedTokens === null ? '' : formatNumber(chargedTokens),
    ]);
    context.print(renderTable(columns, rows, context.colour));
  }
  if (receipts.length > 0) context.print(`receipts: ${receipts.length} (with --json as signed)`);
  context.print(renderAudit(audit, context.colour));
  return history;
}

/** SIMULATED is said wherever it is shown. */
function platformKind(platform: string): string {
  const { kind } = JSON.parse(platform) as { readonly kind: string };
  return kind === 'simulated' ? 'SIMULATED' : kind;
}

export function renderAudit(entries: readonly AuditEntry[], colour: boolean): string {
  const rows = entries.map(({ time, event, details }) => [
    showTime(time),
    event,
    Object.entries(details)
      .filter(([, value]) => value !== '')
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  ]);
  return renderTable([{ title: 'time' }, { title: 'event' }, { title: 'details' }], rows, colour);
}
