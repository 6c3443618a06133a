// distillock demo: the whole story on one machine with the bundled teacher: lock, license, distil, evaluate, report.
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { wholeNumber } from '../options.js';
import type { DemoReport } from '../report/demo-schema.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface DemoVerbOptions {
  readonly out: string;
  readonly seed: number;
}

export const demoHelp: VerbHelp<DemoVerbOptions> = {
  name: 'demo',
  summary: 'lock, license, distil and evaluate with the bundled teacher, in minutes',
  examples: [['distillock demo', 'writes demo-out/report.html and demo-out/report.json']],
  define(command: Command): void {
    command
      .option('--out <folder>', 'where to write; an earlier demo there is replaced', 'demo-out')
      .option('--seed <n>', 'of data order and initialisation', wholeNumber(0, 2 ** 32 - 1), 42);
  },
  parse: (command: Command): DemoVerbOptions => command.opts<DemoVerbOptions>(),
};

export const demo: Verb<DemoVerbOptions> = {
  ...demoHelp,
  async run(options: DemoVerbOptions, context: Context): Promise<DemoReport> {
    const { runDemo } = await import('../demo/run-demo.js');
    return runDemo({ out: resolve(options.out), seed: options.seed }, context);
  },
};
