// distillock keys rotate: the same owner secrets under a new passphrase. Run by the model owner.
// The keys themselves cannot change: bundle and enclave are bound to them, so new keys mean a new lock and a new bundle.
import type { Command } from 'commander';
import { askNewPassphrase, askPassphrase, NEW_PASSPHRASE_VARIABLE } from '../../passphrase.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface KeysRotateOptions {
  readonly keys: string;
}

export const keysRotateHelp: VerbHelp<KeysRotateOptions> = {
  name: 'keys rotate',
  summary: "put the owner's secrets under a new passphrase (owner)",
  examples: [
    ['distillock keys rotate --keys t.keys', 'asks for the old and the new passphrase; encrypts a file that was not'],
  ],
  define(command: Command): void {
    command
      .requiredOption('--keys <file>', "owner's secrets to encrypt anew")
      .addHelpText(
        'after',
        '\nOnly the passphrase changes. A bundle is bound to its keys: if they may have leaked, lock the model again with\n' +
          'new keys, hand out the new bundle, and revoke the licences of the old one. Passphrases can come from\n' +
          'DISTILLOCK_PASSPHRASE (old) and DISTILLOCK_NEW_PASSPHRASE (new). Old copies of the file still open with the old one.',
      );
  },
  parse: (command: Command): KeysRotateOptions => command.opts<KeysRotateOptions>(),
};

export const keysRotate: Verb<KeysRotateOptions> = { ...keysRotateHelp, run: runKeysRotate };

/** What --json prints. */
interface KeysRotateResult {
  readonly keys: string;
  /** Whether it was encrypted before. */
  readonly wasEncrypted: boolean;
}

async function runKeysRotate({ keys: file }: KeysRotateOptions, context: Context): Promise<KeysRotateResult> {
  const { isEncrypted, loadOwnerKeys, rewriteOwnerKeys } = await import('../../../owner/owner-keys.js');
  const wasEncrypted = await isEncrypted(file);
  const keys = await loadOwnerKeys(file, askPassphrase);
  await rewriteOwnerKeys(file, keys, await askNewPassphrase(NEW_PASSPHRASE_VARIABLE));
  context.print(
    `${file} ${wasEncrypted ? 'opens with the new passphrase only' : 'is encrypted now'}; old copies stay as they were.`,
  );
  return { keys: file, wasEncrypted };
}
