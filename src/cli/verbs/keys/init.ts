// distillock keys init: new owner secrets under a passphrase, before the first lock. Run by the model owner.
import type { Command } from 'commander';
import { askNewPassphrase } from '../../passphrase.js';
import { renderPairs } from '../../table.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface KeysInitOptions {
  readonly keys: string;
  readonly publicKey: string;
}

export const keysInitHelp: VerbHelp<KeysInitOptions> = {
  name: 'keys init',
  summary: "make the owner's secrets of one bundle, under a passphrase (owner)",
  examples: [
    ['distillock keys init --keys t.keys', 'asks for the passphrase; then lock with --keys t.keys'],
    ['DISTILLOCK_PASSPHRASE="$(cat secret)" distillock keys init --keys t.keys', 'without a terminal'],
  ],
  define(command: Command): void {
    command
      .requiredOption('--keys <file>', "owner's secrets to write; an existing file is never overwritten")
      .option('--public_key <file>', "where the owner's public key goes (default: <keys>.pub)");
  },
  parse(command: Command): KeysInitOptions {
    const { keys, public_key } = command.opts<{ readonly keys: string; readonly public_key: string | undefined }>();
    return { keys, publicKey: public_key ?? `${keys}.pub` };
  },
};

export const keysInit: Verb<KeysInitOptions> = { ...keysInitHelp, run: runKeysInit };

/** What --json prints. */
interface KeysInitResult {
  readonly keys: string;
  readonly publicKey: string;
  readonly keyId: string;
}

async function runKeysInit({ keys: file, publicKey }: KeysInitOptions, context: Context): Promise<KeysInitResult> {
  const { createOwnerKeys, saveOwnerKeys, saveOwnerPublicKey } = await import('../../../owner/owner-keys.js');
  const { keyId } = await import('../../../trusted/wire/jws.js');
  const keys = createOwnerKeys();
  await saveOwnerKeys(file, keys, await askNewPassphrase());
  await saveOwnerPublicKey(publicKey, keys);
  const id = keyId(keys.signingKey);
  const rows = [
    ['secrets', `${file} (encrypted)`],
    ['public key', publicKey],
    ['key id', id],
  ] as const;
  context.print(renderPairs(rows, context.colour));
  context.print(`Keep ${file} and its passphrase: without them there are no further licences for what they lock.`);
  return { keys: file, publicKey, keyId: id };
}
