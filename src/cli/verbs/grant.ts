// distillock grant: a signed licence for one attested enclave: how many tokens, how precise, until when. Run by the model owner.
import { type Command, Option } from 'commander';
import { equalBytes } from '../../trusted/wire/bytes.js';
import { MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import type { Licence } from '../../trusted/wire/licence.js';
import type { Precision } from '../../trusted/wire/status.js';
import { UsageError } from '../errors.js';
import { readEvidenceFile, writeLicenceFile } from '../exchange-files.js';
import { defaultExpiry, futureDate, TERM_DEFAULTS } from '../licence-terms.js';
import { expiryDate, nonceBytes, realNumber, wholeNumber } from '../options.js';
import { askPassphrase } from '../passphrase.js';
import { renderPairs } from '../table.js';
import { formatNumber } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface GrantVerbOptions {
  readonly bundle: string;
  /** Owner secrets, from `lock`. */
  readonly keys: string;
  /** What the enclave said about itself, from `enclave`. */
  readonly evidence: string;
  /** The 32 bytes that the owner gave to the data owner; undefined: whatever the evidence is over. */
  readonly nonce: Uint8Array | undefined;
  readonly out: string;
  readonly budgetTokens: number;
  readonly topK: number;
  readonly precision: Precision;
  readonly temperature: { readonly min: number; readonly max: number };
  readonly expires: Date;
}

interface Raw {
  readonly bundle: string;
  readonly keys: string;
  readonly evidence: string;
  readonly nonce: Uint8Array | undefined;
  readonly out: string;
  readonly budget: number;
  readonly topK: number;
  readonly precision: Precision;
  readonly minTemperature: number;
  readonly maxTemperature: number;
  readonly expires: Date;
}

export const grantHelp: VerbHelp<GrantVerbOptions> = {
  name: 'grant',
  summary: 'sign a licence for an enclave whose evidence holds (owner)',
  examples: [
    [
      'distillock grant --bundle t.lock --keys t.keys --evidence alice.evidence --budget 1_000_000 --expires 30d --out alice.licence',
      'a million tokens within thirty days',
    ],
  ],
  define(command: Command): void {
    command
      .requiredOption('--bundle <folder>', 'bundle that may be used')
      .requiredOption('--keys <file>', "owner's secrets, written by `distillock lock`")
      .requiredOption('--evidence <file>', "the enclave's evidence, written by `distillock enclave`")
      .option('--nonce <hex>', 'accept only evidence over these 32 bytes, which you gave to the data owner', nonceBytes)
      .requiredOption('--out <file>', 'licence to write')
      .requiredOption('--budget <tokens>', 'positions whose log-probabilities may be released', wholeNumber(1))
      .option('--top-k <n>', 'log-probabilities per position at most', wholeNumber(1), TERM_DEFAULTS.topK)
      .addOption(
        new Option('--precision <name>', 'of released log-probabilities')
          .choices(['float16', 'float32'])
          .default(TERM_DEFAULTS.precision),
      )
      .option('--min-temperature <x>', 'lowest temperature', realNumber(0, 1000), TERM_DEFAULTS.minTemperature)
      .option('--max-temperature <x>', 'highest temperature', realNumber(0, 1000), TERM_DEFAULTS.maxTemperature)
      .addOption(
        new Option('--expires <date|days>', 'last moment: 2027-01-31, or 30d from now')
          .argParser(expiryDate)
          .default(defaultExpiry(), TERM_DEFAULTS.expires),
      );
  },
  parse(command: Command): GrantVerbOptions {
    const { budget, minTemperature, maxTemperature, ...same } = command.opts<Raw>();
    if (minTemperature > maxTemperature) {
      throw new UsageError('usage', `--min-temperature ${minTemperature} is above --max-temperature ${maxTemperature}`);
    }
    const { bundle, keys, evidence, nonce, out, topK, precision, expires } = same;
    futureDate(expires);
    const temperature = { min: minTemperature, max: maxTemperature };
    return { bundle, keys, evidence, nonce, out, budgetTokens: budget, topK, precision, temperature, expires };
  },
};

export const grant: Verb<GrantVerbOptions> = { ...grantHelp, run: runGrant };

/** What --json prints. */
interface GrantResult {
  readonly licence: Licence;
  readonly file: string;
  readonly simulated: true;
  /** Whether the evidence is over a nonce that the owner chose. */
  readonly fresh: boolean;
  readonly measurement: string;
}

/** Clocks of owner and enclave may differ by this much. */
const CLOCK_SKEW_S = 300;

async function runGrant(options: GrantVerbOptions, context: Context): Promise<GrantResult> {
  const { appraise, measurementOf, parseSimulated, simulatedPolicy, verifySimulated } = await import(
    '../../attest/index.js'
  );
  const { openBundle } = await import('../../edge/bundle.js');
  const { grantLicence, loadOwnerKeys } = await import('../../owner/index.js');
  const keys = await loadOwnerKeys(options.keys, askPassphrase);
  const { bundleId } = await openBundle(options.bundle, { ownerKey: keys.signingKey, checkHashes: false });
  const file = await readEvidenceFile(options.evidence);
  if (options.nonce !== undefined && !equalBytes(options.nonce, file.nonce)) {
    const message = `${options.evidence} is over another nonce than --nonce: it is old, or meant for somebody else`;
    throw new VerificationError('evidence-nonce', message, { file: options.evidence });
  }
  // The root comes with the evidence, so anybody can make evidence of this kind: good for trying out, worthless as proof.
  const verified = verifySimulated(parseEvidence(), file.simulatedRoot, file.nonce);
  const now = Math.floor(Date.now() / 1000);
  const evidence = appraise(verified, simulatedPolicy(bundleId, file.simulatedRoot), now);
  context.note('SIMULATED evidence: no hardware vouches for this enclave, and whoever sent it can read the teacher');
  const { budgetTokens, topK, precision, temperature } = options;
  const notBefore = now - CLOCK_SKEW_S;
  const expires = Math.floor(options.expires.getTime() / 1000);
  const terms = { budgetTokens, topK, precision, temperature, notBefore, expires };
  const granted = await grantLicence({ keys, evidence, terms });
  await writeLicenceFile(options.out, granted);
  const fresh = options.nonce !== undefined;
  const rows = [
    ['licence', options.out],
    ['licence id', granted.licence.licenceId],
    ['bundle id', bundleId],
    ['budget', `${formatNumber(budgetTokens)} tokens`],
    ['top-k', formatNumber(topK)],
    ['precision', precision],
    ['temperature', `${temperature.min} to ${temperature.max}`],
    ['expires', options.expires.toISOString().replace(/\.\d+Z$/, 'Z')],
    ['measurement', measurementOf(evidence.platform)],
    ['freshness', fresh ? 'proven by --nonce' : 'not proven: give the data owner a nonce, and it here as --nonce'],
  ] as const;
  context.print(renderPairs(rows, context.colour));
  context.print(`Send ${options.out} to the data owner; it unlocks only the enclave that made the evidence.`);
  return {
    licence: granted.licence,
    file: options.out,
    simulated: true,
    fresh,
    measurement: measurementOf(evidence.platform),
  };

  function parseEvidence(): ReturnType<typeof parseSimulated> {
    try {
      return parseSimulated(file.evidence);
    } catch (cause) {
      const message = `${options.evidence} holds no evidence of a simulated enclave; ask for it again`;
      throw new MalformedError('evidence-file', message, { file: options.evidence }, cause);
    }
  }
}
