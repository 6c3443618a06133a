// distillock fuse: adapters merged into their base, written as a Hugging Face directory (what mlx_lm.fuse and PEFT's merge_and_unload do).
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { FloatFormat } from '../../model/checkpoint/float-formats.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface FuseVerbOptions {
  /** PEFT folder. */
  readonly adapter: string;
  /** undefined: the base that adapter_config.json names. */
  readonly model: string | undefined;
  readonly out: string;
  readonly dtype: 'float32' | 'float16' | 'bfloat16';
}

const FORMATS: Readonly<Record<FuseVerbOptions['dtype'], FloatFormat>> = {
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
};

export const fuseHelp: VerbHelp<FuseVerbOptions> = {
  name: 'fuse',
  summary: 'merge adapters into their base: a Hugging Face directory (edge)',
  examples: [
    ['distillock fuse --adapter lora-out --out student', 'onto the base that adapter_config.json names'],
    ['distillock fuse --adapter lora-out --model base --out student --dtype bfloat16', 'onto a base that has moved'],
  ],
  define(command: Command): void {
    command
      .requiredOption('--adapter <dir>', 'PEFT folder: adapter_config.json and adapter_model.safetensors')
      .option('--model <dir|file|id>', 'base (default: the one that adapter_config.json names)')
      .requiredOption('--out <dir>', 'new folder for the merged model')
      .addOption(
        new Option('--dtype <type>', 'how weights are stored').choices(Object.keys(FORMATS)).default('float32'),
      );
  },
  parse(command: Command): FuseVerbOptions {
    const { adapter, model, out, dtype } = command.opts<FuseVerbOptions>();
    return { adapter, model, out, dtype };
  },
};

/** What --json prints. */
export interface FuseResult {
  readonly student: string;
  readonly adapter: string;
  readonly dtype: string;
}

export const fuse: Verb<FuseVerbOptions> = {
  ...fuseHelp,
  async run({ adapter, model, out, dtype }: FuseVerbOptions, context: Context): Promise<FuseResult> {
    const { openAdapted } = await import('../../model/checkpoint/open.js');
    const { saveCheckpoint } = await import('../../model/checkpoint/hf-directory.js');
    for (const file of ['config.json', 'adapter_config.json'])
      if (existsSync(join(out, file)))
        throw new EnvironmentError('output-dir-used', `${out} already holds a model; choose another --out`, { out });
    const { config, tensors, tokenizer } = await openAdapted(adapter, model);
    try {
      await saveCheckpoint(out, config, tensors, tokenizer, { dtype: FORMATS[dtype] });
    } finally {
      await tensors.close();
    }
    context.print(`${adapter} merged into its base: ${out} (${dtype})`);
    return { student: out, adapter, dtype };
  },
};
