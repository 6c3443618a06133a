// Whether a bundle can have been locked from a checkpoint at all: same shape, same tokenizer. Zone: owner. Quick; weights are not compared.
import type { Bundle } from '../edge/bundle.js';
import type { UnlockedModel } from '../edge/teacher/unlocked-model.js';
import { openTokenizer } from '../model/tokenizer.js';
import { MalformedError } from '../trusted/wire/errors.js';

/** Throws MalformedError('model-differs') naming what differs. */
export async function checkSameModel(
  { dir, config, manifest }: Bundle,
  plain: Pick<UnlockedModel, 'config' | 'tokenizer'>,
  model: string,
): Promise<void> {
  const shape = ({ eosTokenIds: _, ...rest }: Bundle['config']): object => rest;
  const [locked, original] = [shape(config), shape(plain.config)] as Record<string, unknown>[];
  const refuse = (key: string, found: string): never => {
    const message = `${dir} was not locked from ${model}: ${found}; name the checkpoint that was locked`;
    throw new MalformedError('model-differs', message, { bundle: dir, model, key });
  };
  for (const [name, value] of Object.entries(locked!)) {
    const [ours, theirs] = [JSON.stringify(value), JSON.stringify(original![name])];
    if (ours !== theirs) refuse(name, `${name} is ${ours} in the bundle and ${theirs} in the checkpoint`);
  }
  if ((await openTokenizer(plain.tokenizer)).hash !== manifest.tokenizerSha256)
    refuse('tokenizer.json', 'their tokenizers differ');
}
