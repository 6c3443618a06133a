// The files that travel beside the weights, kept as bytes: what is read from one folder is written to the next unchanged.
// Zone: edge and owner.

import { join } from 'node:path';
import { writeFileAtomic } from '../files.js';
import { readIfPresent, readWhole } from './file-reads.js';

export interface TokenizerFiles {
  readonly 'tokenizer.json': Uint8Array;
  readonly 'tokenizer_config.json'?: Uint8Array;
  readonly 'chat_template.jinja'?: Uint8Array;
  readonly 'generation_config.json'?: Uint8Array;
  readonly 'special_tokens_map.json'?: Uint8Array;
}

const optionalNames = [
  'tokenizer_config.json',
  'chat_template.jinja',
  'generation_config.json',
  'special_tokens_map.json',
] as const;

/** Every name a TokenizerFiles may hold. */
export const tokenizerFileNames: readonly (keyof TokenizerFiles)[] = ['tokenizer.json', ...optionalNames];

/** Throws MalformedError when tokenizer.json is missing. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const files: Partial<Record<keyof TokenizerFiles, Uint8Array>> & { 'tokenizer.json': Uint8Array } = {
    'tokenizer.json': await readWhole(join(folder, 'tokenizer.json')),
  };
  for (const name of optionalNames) {
    const bytes = await readIfPresent(join(folder, name));
    if (bytes !== undefined) files[name] = bytes;
  }
  return files;
}

export async function writeTokenizerFiles(folder: string, files: TokenizerFiles): Promise<void> {
  for (const name of tokenizerFileNames) {
    const bytes = files[name];
    if (bytes !== undefined) await writeFileAtomic(join(folder, name), bytes);
  }
}
