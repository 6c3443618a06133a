// distillock licence issue: terms go into the database, an activation code comes out. Run by the model owner.
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { LicenceRecord } from '../../../owner/store/licence-records.js';
import type { Precision } from '../../../trusted/wire/status.js';
import { UsageError } from '../../errors.js';
import { databaseOption, withLicences } from '../../licence-admin.js';
import {
  defaultExpiry,
  futureDate,
  showTime,
  TERM_DEFAULTS,
  type TemperatureRange,
  temperatureRange,
} from '../../licence-terms.js';
import { expiryDate, wholeNumber } from '../../options.js';
import { renderPairs } from '../../table.js';
import { formatNumber } from '../../terminal.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface LicenceIssueOptions {
  readonly database: string;
  /** A bundle folder, or the id of one that is elsewhere. */
  readonly bundle: { readonly folder: string } | { readonly id: string };
  readonly label: string;
  readonly budgetTokens: number;
  readonly leaseTokens: number;
  readonly topK: number;
  readonly precision: Precision;
  readonly temperature: TemperatureRange;
  readonly expires: Date;
  readonly maxDevices: number;
}

interface Raw {
  readonly database: string;
  readonly bundle: string | undefined;
  readonly bundle_id: string | undefined;
  readonly label: string;
  readonly budget_tokens: number;
  readonly lease_tokens: number;
  readonly top_k: number;
  readonly precision: Precision;
  readonly temperature: TemperatureRange;
  readonly expires: Date;
  readonly max_devices: number;
}

export const licenceIssueHelp: VerbHelp<LicenceIssueOptions> = {
  name: 'licence issue',
  summary: 'issue a licence: prints its id and a one-time activation code (owner)',
  examples: [
    [
      'distillock licence issue --bundle t.lock --budget_tokens 1_000_000 --label alice',
      'a million tokens within thirty days, for one device',
    ],
    [
      'distillock licence issue --bundle t.lock --budget_tokens 1_000_000 --lease_tokens 50_000 --max_devices 5',
      'five devices share a million tokens and renew a lease every 50,000',
    ],
  ],
  define(command: Command): void {
    databaseOption(command)
      .option('--bundle <folder>', 'bundle that may be used')
      .option('--bundle_id <hex>', 'the same by its id (see distillock inspect)', bundleIdOf)
      .option('--label <text>', 'your own words: who it is for', '')
      .requiredOption(
        '--budget_tokens <n>',
        'positions whose log-probabilities may be released, by all devices together',
        wholeNumber(1),
      )
      .option('--lease_tokens <n>', 'positions per lease; 0: no leases, nothing leaves the device', wholeNumber(0), 0)
      .option('--top_k <n>', 'log-probabilities per position at most', wholeNumber(1), TERM_DEFAULTS.topK)
      .addOption(
        new Option('--precision <name>', 'of released log-probabilities')
          .choices(['float16', 'float32'])
          .default(TERM_DEFAULTS.precision),
      )
      .addOption(
        new Option('--temperature <min:max>', 'range of temperatures')
          .argParser(temperatureRange)
          .default(
            { min: TERM_DEFAULTS.minTemperature, max: TERM_DEFAULTS.maxTemperature },
            `${TERM_DEFAULTS.minTemperature}:${TERM_DEFAULTS.maxTemperature}`,
          ),
      )
      .addOption(
        new Option('--expires <date|days>', 'last moment: 2027-01-31, or 30d from now')
          .argParser(expiryDate)
          .default(defaultExpiry(), TERM_DEFAULTS.expires),
      )
      .option('--max_devices <n>', 'devices that may hold it; more than one needs leases', wholeNumber(1), 1);
  },
  parse(command: Command): LicenceIssueOptions {
    const raw = command.opts<Raw>();
    const { bundle: folder, bundle_id: id } = raw;
    if ((folder === undefined) === (id === undefined))
      throw new UsageError('usage', 'give either --bundle or --bundle_id');
    if (raw.max_devices > 1 && raw.lease_tokens === 0)
      throw new UsageError(
        'usage',
        '--max_devices above 1 needs --lease_tokens: leases keep devices within one budget',
      );
    return {
      database: raw.database,
      bundle: folder === undefined ? { id: id! } : { folder },
      label: raw.label,
      budgetTokens: raw.budget_tokens,
      leaseTokens: raw.lease_tokens,
      topK: raw.top_k,
      precision: raw.precision,
      temperature: raw.temperature,
      expires: futureDate(raw.expires),
      maxDevices: raw.max_devices,
    };
  },
};

export const licenceIssue: Verb<LicenceIssueOptions> = { ...licenceIssueHelp, run: runIssue };

/** What --json prints. */
interface IssueResult {
  readonly licence: LicenceRecord;
  readonly activationCode: string;
}

async function runIssue(options: LicenceIssueOptions, context: Context): Promise<IssueResult> {
  const { database, bundle, expires, ...terms } = options;
  const bundleId = 'id' in bundle ? bundle.id : await readBundleId(bundle.folder);
  const seconds = Math.floor(expires.getTime() / 1000);
  const issued = await withLicences(database, (admin) => admin.issue({ ...terms, bundleId, expires: seconds }));
  const { licence, activationCode } = issued;
  context.print(renderPairs(termRows(licence), context.colour));
  context.print(renderPairs([['activation code', activationCode]], context.colour));
  context.print('Give the activation code to the data owner; it is not shown again.');
  return { licence, activationCode };
}

async function readBundleId(folder: string): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  const { join } = await import('node:path');
  const { describeFileError } = await import('../../../model/files.js');
  const { parseManifest } = await import('../../../model/bundle-manifest.js');
  const { bundleId } = await import('../../../trusted/wire/manifest.js');
  const file = join(folder, 'manifest.json');
  const bytes = await readFile(file).catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  parseManifest(bytes);
  return bundleId(bytes);
}

/** Rows for the terminal; `show` uses them too. */
export function termRows(licence: LicenceRecord): [name: string, value: string][] {
  const { min, max } = licence.temperature;
  return [
    ['licence id', licence.licenceId],
    ...(licence.label === '' ? [] : [['label', licence.label] as [string, string]]),
    ['bundle id', licence.bundleId],
    ['state', licence.state],
    ['budget', `${formatNumber(licence.budgetTokens)} tokens`],
    [
      'leases',
      licence.leaseTokens === 0
        ? 'none'
        : `${formatNumber(licence.leaseTokens)} tokens each, ${formatNumber(licence.leasedTokens)} leased`,
    ],
    ['devices', `${licence.devices} of ${licence.maxDevices}`],
    ['top-k', formatNumber(licence.topK)],
    ['precision', licence.precision],
    ['temperature', `${min} to ${max}`],
    ['expires', showTime(licence.expires)],
  ];
}

function bundleIdOf(text: string): string {
  if (/^[0-9a-f]{64}$/.test(text)) return text;
  throw new InvalidArgumentError('Give 64 lower-case hex digits.');
}
