// distillock licence revoke: no grant and no lease from now on. Run by the model owner.
import type { Command } from 'commander';
import type { LicenceRecord } from '../../../owner/store/licence-records.js';
import { databaseOption, withLicences } from '../../licence-admin.js';
import { formatNumber } from '../../terminal.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface LicenceRevokeOptions {
  readonly database: string;
  readonly licenceId: string;
  readonly reason: string;
}

export const licenceRevokeHelp: VerbHelp<LicenceRevokeOptions> = {
  name: 'licence revoke',
  summary: 'revoke a licence: no grant and no lease any more (owner)',
  examples: [['distillock licence revoke 6f1c… --reason "laptop lost"', 'the reason goes into the audit log']],
  define(command: Command): void {
    databaseOption(command.argument('<licence>', 'id of the licence')).option(
      '--reason <text>',
      'why, for the audit log',
      '',
    );
  },
  parse(command: Command): LicenceRevokeOptions {
    return {
      ...command.opts<{ readonly database: string; readonly reason: string }>(),
      licenceId: command.args[0]!,
    };
  },
};

export const licenceRevoke: Verb<LicenceRevokeOptions> = { ...licenceRevokeHelp, run: runRevoke };

async function runRevoke(
  { database, licenceId, reason }: LicenceRevokeOptions,
  context: Context,
): Promise<{ readonly licence: LicenceRecord }> {
  const licence = await withLicences(database, (admin) => admin.revoke(licenceId, reason));
  context.print(`${licenceId} is revoked`);
  if (licence.devices > 0) {
    const left = licence.budgetTokens - licence.leasedTokens;
    context.print(
      licence.leaseTokens === 0
        ? 'A device that is unlocked goes on to its budget or expiry: without leases nothing can reach it.'
        : `Its devices stop when their leases are used up; ${formatNumber(left)} tokens of the budget were never leased.`,
    );
  }
  return { licence };
}
