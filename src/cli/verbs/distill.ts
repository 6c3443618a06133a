// distillock distill: the main job on the data owner's device: capture the teacher's answers, train the student.
import type { Command } from 'commander';
import type { ConfigFlags } from '../../edge/config.js';
import { addConfigFlags, givenFlags } from '../config-flags.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface DistillVerbOptions {
  /** For `loadConfig(file, flags)`. */
  readonly file: string | undefined;
  readonly flags: ConfigFlags;
}

export const distillHelp: VerbHelp<DistillVerbOptions> = {
  name: 'distill',
  summary: 'distil a student from a locked teacher on your own text (edge)',
  examples: [
    ['distillock distill config.yaml', 'everything from a file'],
    ['distillock distill config.yaml --learning_rate 1e-3 --output_dir run2', 'flags override the file'],
    ['distillock distill config.yaml --resume_from_checkpoint true', 'go on after an interruption'],
  ],
  define: (command: Command): void => addConfigFlags(command),
  parse(command: Command): DistillVerbOptions {
    return { file: command.args[0], flags: givenFlags(command) };
  },
};

/** What `--json` prints. Paths are absolute; tokens/s leave out evaluation and saving. */
export interface DistillResult {
  readonly student: string;
  /** What was minimised, e.g. `0.1 × cross-entropy + 0.9 × forward_kl`. */
  readonly loss: string;
  readonly report: string;
  readonly steps: number;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly evaluation: { readonly kl: number; readonly nll: number; readonly agreement: number } | null;
  readonly captured: { readonly rows: number; readonly tokens: number; readonly seconds: number };
  readonly budget: { readonly granted: number; readonly charged: number } | null;
  readonly egressBytesAfterUnlock: number;
}

export const distill: Verb<DistillVerbOptions> = {
  ...distillHelp,
  async run({ file, flags }: DistillVerbOptions, context: Context): Promise<DistillResult> {
    const { runDistill } = await import('../run-distill.js');
    return runDistill(file, flags, context);
  },
};
