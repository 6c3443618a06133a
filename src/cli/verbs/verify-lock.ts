// distillock verify-lock: does the locked model say what the original says? Run by the model owner before a bundle is handed out.
import type { Command } from 'commander';
import { realNumber, wholeNumber } from '../options.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface VerifyLockOptions {
  readonly bundle: string;
  /** The checkpoint that was locked: folder, GGUF file or hub id. */
  readonly model: string;
  /** Owner secrets of the lock. */
  readonly keys: string;
  /** UTF-8 text; null: held-out stories that come with the program. */
  readonly text: string | null;
  readonly maxTokens: number;
  readonly topK: number;
  /** Largest |Δ log-probability| that passes. */
  readonly tolerance: number;
}

export const verifyLockHelp: VerbHelp<VerifyLockOptions> = {
  name: 'verify-lock',
  summary: 'compare a locked model with its original, token by token (owner)',
  examples: [
    ['distillock verify-lock t.lock --model ./my-model --keys t.keys', 'on text that comes with the program'],
    [
      'distillock verify-lock t.lock --model t.gguf --keys t.keys --text mine.txt --max_tokens 4096',
      'on text of your own',
    ],
  ],
  define(command: Command): void {
    command
      .argument('<bundle>', 'bundle folder')
      .requiredOption('--model <dir|file|hub-id>', 'the checkpoint that was locked')
      .requiredOption('--keys <file>', "owner's secrets of the lock; they never leave this machine")
      .option('--text <file>', 'UTF-8 text to compare on (default: bundled stories)')
      .option('--max_tokens <n>', 'tokens of it to compare', wholeNumber(2), 1024)
      .option('--top_k <n>', 'how many of the most likely tokens are also shown apart', wholeNumber(1), 64)
      .option('--tolerance <nats>', 'largest difference of a log-probability that passes', realNumber(0, 100), 1e-3);
  },
  parse(command: Command): VerifyLockOptions {
    const { model, keys, text, max_tokens, top_k, tolerance } = command.opts();
    return {
      bundle: command.args[0]!,
      model,
      keys,
      text: text ?? null,
      maxTokens: max_tokens,
      topK: top_k,
      tolerance,
    };
  },
};

export const verifyLock: Verb<VerifyLockOptions> = {
  ...verifyLockHelp,
  async run(options: VerifyLockOptions, context: Context): Promise<unknown> {
    const { runVerifyLock } = await import('../run-verify-lock.js');
    return runVerifyLock(options, context);
  },
};
