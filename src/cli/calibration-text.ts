// Text that the owner has a model quantised on, as token sequences of equal length. Zone: owner.
// Read and tokenised as training data is: plain text, jsonl, chat, prompt and completion.
import { fileURLToPath } from 'node:url';
import { readDataset } from '../edge/data/read.js';
import type { DataRecord } from '../edge/data/record.js';
import { tokeniseRecords } from '../edge/data/tokenise.js';
import { openChatTemplate } from '../model/chat-template.js';
import type { TokenizerFiles } from '../model/checkpoint/tokenizer-files.js';
import type { DecoderConfig } from '../model/config.js';
import { openTokenizer } from '../model/tokenizer.js';
import { MalformedError } from '../trusted/wire/errors.js';

/** Simple English stories; see assets/text/README.md. */
export const bundledText: string = fileURLToPath(new URL('../../../assets/text/train.txt', import.meta.url));

const sequenceTokens = 256;
/** No text has more characters a token on average: what lies beyond is not tokenised. */
const charactersPerToken = 16;
/** Fewer say too little about any layer. */
const leastTokens = 1024;

/**
 * At most `tokens` tokens from the file's beginning. Throws what `readDataset` throws, and MalformedError('calibration-short') when the
 * file has less than 1024 tokens.
 */
export async function readCalibration(
  file: string,
  files: TokenizerFiles,
  { maxPositionEmbeddings }: DecoderConfig,
  tokens: number,
): Promise<Int32Array[]> {
  const tokenizer = await openTokenizer(files);
  const records = firstRecords(await readDataset(file), tokens * charactersPerToken);
  const { examples } = tokeniseRecords(records, tokenizer, {
    maxLength: Number.MAX_SAFE_INTEGER,
    template: openChatTemplate(files),
    applyChatTemplate: true,
    completionOnlyLoss: false,
    assistantOnlyLoss: false,
    appendEos: true,
  });
  const length = Math.min(sequenceTokens, maxPositionEmbeddings);
  const ids = examples.flatMap(({ inputIds }) => [...inputIds]).slice(0, tokens);
  if (ids.length < Math.max(length, leastTokens)) {
    const message = `${file} has ${ids.length} tokens of calibration text; give at least ${leastTokens}, some thousands are better`;
    throw new MalformedError('calibration-short', message, { file, tokens: ids.length });
  }
  return Array.from({ length: Math.floor(ids.length / length) }, (_, i) =>
    Int32Array.from(ids.slice(i * length, (i + 1) * length)),
  );
}

function* firstRecords(records: readonly DataRecord[], characters: number): Generator<DataRecord> {
  let left = characters;
  for (const record of records) {
    if (left <= 0) return;
    yield record;
    if (record.kind === 'text') left -= record.text.length;
    else if (record.kind === 'completion') left -= record.prompt.length + record.completion.length;
    else left -= record.messages.reduce((sum, { content }) => sum + content.length, 0);
  }
}
