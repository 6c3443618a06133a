// A Hugging Face directory as a checkpoint: config.json, safetensors (one file or shards), tokenizer files.
// Zone: edge and owner. Opening checks every tensor's name and shape; saving writes what transformers loads unchanged.

import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { DecoderConfig } from '../config.js';
import { familyOf } from '../families/index.js';
import { writeFileAtomic } from '../files.js';
import type { TensorSource } from '../tensors.js';
import { checkTensors, expectedTensors } from './expected-tensors.js';
import { readWhole } from './file-reads.js';
import type { FloatFormat } from './float-formats.js';
import { parseConfig, toHfConfig } from './hf-config.js';
import { JsonFields, parseJsonObject } from './json-fields.js';
import { indexFileName, openSafetensors, openShardedSafetensors } from './safetensors.js';
import { writeShards } from './safetensors-writer.js';
import { readTokenizerFiles, type TokenizerFiles, writeTokenizerFiles } from './tokenizer-files.js';

/** A model with everything needed to run it; `tensors` holds open files until it is closed. */
export interface Checkpoint {
  /** The folder or file it was read from. */
  readonly path: string;
  readonly config: DecoderConfig;
  readonly tensors: TensorSource;
  readonly tokenizer: TokenizerFiles;
}

/** Reads config.json alone, for a student that starts from random weights. */
export async function readConfig(file: string): Promise<DecoderConfig> {
  return parseConfig(parseJsonObject(await readWhole(file), file), file);
}

/**
 * Opens a folder. `eosTokenIds` also takes the ids of generation_config.json, where chat models keep their end of turn.
 * Throws MalformedError naming file and tensor, UnsupportedError for what this version cannot compute.
 */
export async function openDirectory(folder: string): Promise<Checkpoint> {
  const config = await readConfig(join(folder, 'config.json'));
  const tokenizer = await readTokenizerFiles(folder);
  const stored = await openWeights(folder);
  const tensors = familyOf(config.modelType, folder).importTensors?.(stored, config) ?? stored;
  try {
    checkTensors(tensors, config, folder);
    return { path: folder, config: withGenerationEos(config, tokenizer, folder), tensors, tokenizer };
  } catch (error) {
    await tensors.close();
    throw error;
  }
}

export interface SaveOptions {
  /** Storage format of the weights; F32 by default. */
  readonly dtype?: FloatFormat;
  readonly maxShardBytes?: number;
}

/**
 * Writes a folder: weights first, config.json last, each file whole or not at all.
 * Tensors are asked for one at a time in the order of `expectedTensors`. Throws EnvironmentError when the disk is full.
 */
export async function saveCheckpoint(
  folder: string,
  config: DecoderConfig,
  tensors: Pick<TensorSource, 'read'>,
  tokenizer: TokenizerFiles,
  { dtype = 'F32', maxShardBytes }: SaveOptions = {},
): Promise<void> {
  const planned = expectedTensors(config).map(({ name, shape }) => ({ name, shape, read: () => tensors.read(name) }));
  await writeShards(folder, planned, dtype, maxShardBytes);
  await writeTokenizerFiles(folder, tokenizer);
  const torchDtype = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }[dtype];
  const json = { ...toHfConfig(config), torch_dtype: torchDtype };
  await writeFileAtomic(join(folder, 'config.json'), Buffer.from(`${JSON.stringify(json, null, 2)}\n`));
}

async function openWeights(folder: string): Promise<TensorSource> {
  const single = join(folder, 'model.safetensors');
  const index = join(folder, indexFileName);
  if (await exists(single)) return openSafetensors(single);
  if (await exists(index)) return openShardedSafetensors(index);
  if (await exists(join(folder, 'pytorch_model.bin'))) {
    throw new UnsupportedError(
      'format-unsupported',
      `${folder} holds pytorch_model.bin, which can run code when it is loaded; convert it to safetensors first.`,
      { file: folder },
    );
  }
  throw new MalformedError('file-missing', `${folder} holds neither model.safetensors nor ${indexFileName}.`, {
    file: folder,
  });
}

function withGenerationEos(config: DecoderConfig, tokenizer: TokenizerFiles, folder: string): DecoderConfig {
  const bytes = tokenizer['generation_config.json'];
  if (bytes === undefined) return config;
  const file = join(folder, 'generation_config.json');
  const ids = new JsonFields(parseJsonObject(bytes, file), file).tokenIds('eos_token_id');
  return { ...config, eosTokenIds: [...new Set([...config.eosTokenIds, ...ids])] };
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
