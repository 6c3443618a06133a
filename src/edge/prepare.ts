// From dataset files to examples and batches, as the configuration says.
// Zone: edge. DESIGN section 8: text → chat template → token ids, loss mask, packing.
import { openChatTemplate } from '../model/chat-template.js';
import { readTokenizerFiles, type TokenizerFiles } from '../model/checkpoint/tokenizer-files.js';
import { openTokenizer, type Tokenizer } from '../model/tokenizer.js';
import { EnvironmentError } from '../trusted/wire/errors.js';
import type { Config } from './config.js';
import { type Batches, createBatches } from './data/batches.js';
import type { DataTemplate } from './data/chat-spans.js';
import type { Example } from './data/example.js';
import { type ReadOptions, readDataset, splitRecords } from './data/read.js';
import type { DataRecord } from './data/record.js';
import { type TokeniseOptions, type TokeniseReport, tokeniseRecords } from './data/tokenise.js';

export interface Prepared {
  readonly examples: readonly Example[];
  readonly report: TokeniseReport;
}

export interface PreparedData {
  readonly tokenizer: Tokenizer;
  readonly tokenizerFiles: TokenizerFiles;
  readonly train: Prepared;
  /** Null when validation_split is 0 and no eval_dataset is given. */
  readonly evaluation: Prepared | null;
}

/** Reads, splits and tokenises with the tokenizer files of `tokenizerFolder` (the bundle's). */
export async function prepareData(config: Config, tokenizerFolder: string): Promise<PreparedData> {
  const tokenizerFiles = await readTokenizerFiles(tokenizerFolder);
  const tokenizer = await openTokenizer(tokenizerFiles);
  const options = tokeniseOptions(config, openChatTemplate(tokenizerFiles));
  const prepare = (records: DataRecord[]): Prepared => tokeniseRecords(records, tokenizer, options);
  const records = await readDataset(config.dataset, readOptions(config));
  if (config.eval_dataset !== null) {
    const held = await readDataset(config.eval_dataset, { ...readOptions(config), limit: null });
    return { tokenizer, tokenizerFiles, train: prepare(records), evaluation: prepare(held) };
  }
  const { train, validation } = splitRecords(records, config.validation_split, config.seed);
  const evaluation = validation.length === 0 ? null : prepare(validation);
  return { tokenizer, tokenizerFiles, train: prepare(train), evaluation };
}

/** How the configuration has files read. */
export function readOptions(config: Config): ReadOptions {
  return {
    format: config.dataset_format,
    promptField: config.dataset_prompt_field,
    completionField: config.dataset_completion_field,
    textField: config.dataset_text_field,
    labelField: config.dataset_label_field,
    promptTemplate: config.dataset_prompt_template,
    delimiter: config.dataset_delimiter,
    limit: config.max_samples,
  };
}

/** How the configuration has records tokenised; `template` is the tokenizer's. */
export function tokeniseOptions(config: Config, template: DataTemplate | null): TokeniseOptions {
  return {
    template,
    maxLength: config.max_length,
    excessLength: config.excess_length_strategy,
    applyChatTemplate: config.apply_chat_template,
    completionOnlyLoss: config.completion_only_loss,
    assistantOnlyLoss: config.assistant_only_loss,
    appendEos: config.append_eos,
  };
}

/** Batches for training (shuffled by seed) or evaluation (in order). */
export function batchesFor(
  config: Config,
  examples: readonly Example[],
  purpose: 'train' | 'evaluation',
  padTokenId: number,
): Batches {
  return createBatches(examples, {
    batchSize:
      purpose === 'train'
        ? config.per_device_train_batch_size
        : (config.per_device_eval_batch_size ?? config.per_device_train_batch_size),
    maxLength: config.max_length,
    packing: config.packing,
    // Evaluation has one graph; it is a small share of the work.
    groupByLength: config.group_by_length && purpose === 'train',
    seed: config.seed,
    shuffle: purpose === 'train',
    padTokenId,
  });
}

/** Rows of the loss whose logits exist at once: at most about 64 MB of them, and a divisor of all rows. */
export function lossChunkRows(rows: number, vocabSize: number): number {
  const wanted = Math.max(1, Math.floor(64e6 / (4 * vocabSize)));
  for (let pieces = 1; pieces <= rows; pieces += 1)
    if (rows % pieces === 0 && rows / pieces <= wanted) return rows / pieces;
  throw new EnvironmentError('loss-chunk', `no chunk size for ${rows} rows`);
}
