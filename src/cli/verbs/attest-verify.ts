// distillock attest verify: judges evidence by a policy and shows every rule. Run by the model owner.
import type { Command } from 'commander';
import { nonceBytes, unixTime } from '../options.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface AttestVerifyOptions {
  /** Evidence file, evidence bytes, or a raw SGX or TDX quote or SNP report. */
  readonly evidence: string;
  readonly policy: string;
  /** Unix seconds; undefined: the clock. */
  readonly now: number | undefined;
  readonly nonce: Uint8Array | undefined;
  readonly collateral: string | undefined;
  /** VCEK or VLEK. */
  readonly certificate: string | undefined;
  readonly chain: string | undefined;
}

export const attestVerifyHelp: VerbHelp<AttestVerifyOptions> = {
  name: 'attest verify',
  summary: 'judge evidence by a policy, rule by rule (owner)',
  examples: [
    ['distillock attest verify alice.evidence --policy policy.yaml', 'evidence written by `distillock enclave`'],
    [
      'distillock attest verify quote.bin --policy tdx.yaml --collateral collateral.json --now 2025-07-04T10:00:00Z',
      'a raw TDX quote, as it was judged at that time',
    ],
    [
      'distillock attest verify report.bin --policy snp.yaml --certificate vcek.der --chain milan.pem --json',
      "a raw SNP report with AMD's certificates, for a script",
    ],
  ],
  define(command: Command): void {
    command
      .argument('<evidence>', 'evidence file, or a raw SGX or TDX quote or SEV-SNP report')
      .requiredOption('--policy <file>', 'attestation policy in YAML; see examples/policy')
      .option('--now <time>', 'judge as of this time: Unix seconds or 2025-07-04T10:00:00Z (default: now)', unixTime)
      .option('--nonce <hex>', 'accept only evidence over these 32 bytes, which you gave to the data owner', nonceBytes)
      .option(
        '--collateral <file|folder>',
        "Intel's collateral (.json), AMD's chains (.pem) and revocation list (.crl)",
      )
      .option('--certificate <file>', 'VCEK or VLEK of an SNP report, when it does not come with the report')
      .option('--chain <file>', "AMD's chain in PEM, when it does not come with the report");
  },
  parse(command: Command): AttestVerifyOptions {
    const { policy, now, nonce, collateral, certificate, chain } = command.opts();
    return { evidence: command.args[0]!, policy, now, nonce, collateral, certificate, chain };
  },
};

export const attestVerify: Verb<AttestVerifyOptions> = {
  ...attestVerifyHelp,
  async run(options: AttestVerifyOptions, context: Context): Promise<unknown> {
    const { runAttestVerify } = await import('../run-attest-verify.js');
    return runAttestVerify(options, context);
  },
};
