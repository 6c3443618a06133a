// distillock advise: which scheme and placement to lock a model with, and why, from recorded audits. Run by the model owner.
import { type Command, Option } from 'commander';
import { realNumber, wholeNumber } from '../options.js';
import { renderPairs, renderTable } from '../table.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface AdviseOptions {
  readonly model: string;
  readonly teeMemoryMb: number;
  readonly budgetTokens: number;
  readonly ancestor: boolean;
  /** audit.json files of the owner's own; empty: those that come with the program. */
  readonly audits: readonly string[];
  /** undefined: this machine's. */
  readonly teeGflops: number | undefined;
  readonly acceleratorGflops: number | undefined;
}

export const adviseHelp: VerbHelp<AdviseOptions> = {
  name: 'advise',
  summary: 'recommend scheme and placement from recorded audits, with reasons (owner)',
  examples: [
    [
      'distillock advise --model ./my-model --tee_memory 512 --budget_tokens 2_000_000 --ancestor yes',
      'for a device with 512 MB of trusted memory',
    ],
    [
      'distillock advise --model ./my-model --tee_memory 512 --budget_tokens 4000 --ancestor no --audits audit/audit.json',
      'from an audit of this very model',
    ],
  ],
  define(command: Command): void {
    command
      .requiredOption('--model <dir|file|hub-id>', 'checkpoint that will be locked; only its shape is read')
      .requiredOption('--tee_memory <MB>', "trusted memory of the data owner's enclave", wholeNumber(1))
      .requiredOption('--budget_tokens <n>', 'tokens that you will license', wholeNumber(1))
      .addOption(
        new Option('--ancestor <answer>', 'a public checkpoint it was tuned from exists')
          .choices(['yes', 'no'])
          .makeOptionMandatory(),
      )
      .option('--audits <file...>', 'audit.json of audits of your own, in place of those that come with the program')
      .option('--tee_gflops <n>', "speed of that enclave (default: this machine's)", realNumber(0.001, 1e9))
      .option(
        '--accelerator_gflops <n>',
        "speed of that accelerator (default: this machine's)",
        realNumber(0.001, 1e9),
      );
  },
  parse(command: Command): AdviseOptions {
    const { model, audits, tee_memory, budget_tokens, ancestor, tee_gflops, accelerator_gflops } = command.opts();
    return {
      model,
      teeMemoryMb: tee_memory,
      budgetTokens: budget_tokens,
      ancestor: ancestor === 'yes',
      audits: audits ?? [],
      teeGflops: tee_gflops,
      acceleratorGflops: accelerator_gflops,
    };
  },
};

export const advise: Verb<AdviseOptions> = { ...adviseHelp, run: runAdvise };

async function runAdvise(options: AdviseOptions, context: Context): Promise<unknown> {
  const { advise: adviseFor } = await import('../../audit/advise.js');
  const { readSummary, summariseFiles } = await import('../../audit/summary.js');
  const { shown } = await import('../../audit/sentences.js');
  const { openCheckpoint } = await import('../../model/checkpoint/open.js');
  const { TEE_SPEED, TEE_SPEED_SOURCE } = await import('../../owner/placement.js');
  const { measureGflops } = await import('../../graph/speed.js');
  const { audits } = options;
  const summary = audits.length === 0 ? await readSummary() : await summariseFiles(audits);
  const { config, tensors } = await openCheckpoint(options.model);
  await tensors.close();
  const given = options.teeGflops !== undefined && options.acceleratorGflops !== undefined;
  const here = given ? 1 : await measureGflops();
  const { model, teeMemoryMb, budgetTokens, ancestor } = options;
  const speeds = {
    teeGflops: options.teeGflops ?? TEE_SPEED * here,
    acceleratorGflops: options.acceleratorGflops ?? here,
    speedSource: given ? 'as given' : TEE_SPEED_SOURCE,
  };
  const advice = adviseFor({ config, teeMemoryMb, budgetTokens, ancestor, speeds }, summary);
  const { scheme, placement, precision, verdict, reasons, candidates } = advice;
  const inside = placement === 'enclave' ? ` --enclave_precision ${precision} --tee_memory ${teeMemoryMb}` : '';
  const command = `distillock lock --model ${model} --scheme ${scheme} --placement ${placement}${inside} --out BUNDLE --keys KEYS`;
  context.print(
    renderPairs(
      [
        ['scheme', scheme],
        ['placement', placement],
        ['verdict of recorded audits', verdict],
      ],
      context.colour,
    ),
  );
  context.print(`${reasons.map((reason) => `• ${reason}`).join('\n')}\n`);
  const columns = [
    { title: 'scheme' },
    { title: 'placement' },
    { title: 'needs MB', numeric: true },
    { title: 'worst advantage', numeric: true },
    { title: 'verdict' },
    { title: 'attack' },
    { title: 'model' },
  ];
  const rows = candidates.map(({ fits, needsMb, worst, evidence, ...rest }) => [
    rest.scheme,
    rest.placement,
    `${needsMb}${fits ? '' : ' (too much)'}`,
    shown(worst),
    rest.verdict,
    evidence.idle ? '–' : evidence.attack,
    evidence.model,
  ]);
  context.print(renderTable(columns, rows, context.colour));
  context.print(command);
  return { ...advice, command };
}
