// Text that the owner has a model quantised on, as token sequences of equal length. Zone: owner.
// Read and tokenised as training data is: plain text, jsonl, chat, prompt and completion.
import { createReadStream } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isPlainText, readDataset } from '../edge/data/read.js';
import type { DataRecord } from '../edge/data/record.js';
import { tokeniseRecords } from '../edge/data/tokenise.js';
import { openChatTemplate } from '../model/chat-template.js';
import type { TokenizerFiles } from '../model/checkpoint/tokenizer-files.js';
import type { DecoderConfig } from '../model/config.js';
import { hasOpenMatrices } from '../model/spans.js';
import { openTokenizer } from '../model/tokenizer.js';
import { MalformedError, UnsupportedError } from '../trusted/wire/errors.js';
import type { Plan, Quantization } from '../trusted/wire/manifest.js';

/** Simple English stories; see assets/text/README.md. */
const bundledText: string = fileURLToPath(new URL('../../../assets/text/train.txt', import.meta.url));

const sequenceTokens = 256;
/** No text has more characters a token on average: what lies beyond is not tokenised. */
const charactersPerToken = 16;
/** Fewer say too little about any layer. */
const leastTokens = 1024;

export interface CalibrationChoice {
  readonly quantize: Quantization;
  /** A file, or `none`; undefined: the bundled text for int4, none otherwise. */
  readonly calibration: string | undefined;
  readonly calibrationTokens: number;
}

/** What a lock is to round matrices on; null where nothing is quantised or to the nearest value. Throws what `readCalibration` throws. */
export async function calibrationFor(
  { quantize, calibration, calibrationTokens }: CalibrationChoice,
  plan: Plan,
  { tokenizer, config }: { readonly tokenizer: TokenizerFiles; readonly config: DecoderConfig },
): Promise<Int32Array[] | null> {
  if (quantize === 'none' && calibration !== undefined && calibration !== 'none') {
    const message = '--calibration is for --quantize int8 or int4: add one of them, or leave it out';
    throw new UnsupportedError('calibration-idle', message, {});
  }
  const file = calibration ?? (quantize === 'int4' ? bundledText : 'none');
  if (file === 'none' || !hasOpenMatrices(plan)) return null;
  return readCalibration(file, tokenizer, config, calibrationTokens);
}

/**
 * At most `tokens` tokens from the file's beginning. Plain text is read half as it stands, with its separators, and half as documents, as
 * training reads it: a model treats the tokens at the seams unlike any other, and both kinds of seam have to be seen. Throws what
 * `readDataset` throws, and MalformedError('calibration-short') when the file has less than 1024 tokens.
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
  const documents = cut(Int32Array.from(examples.flatMap(({ inputIds }) => [...inputIds])).subarray(0, tokens), length);
  const found = documents.length * length;
  if (found < leastTokens) {
    const message = `${file} has ${found} tokens of calibration text; give at least ${leastTokens}, some thousands are better`;
    throw new MalformedError('calibration-short', message, { file, tokens: found });
  }
  if (!isPlainText(file)) return documents;
  const plain = cut(tokenizer.encode(await beginningOf(file, tokens * charactersPerToken)).subarray(0, found), length);
  return documents.map((ids, i) => (i % 2 === 0 ? (plain[i] ?? ids) : ids));
}

/** At most `bytes` of UTF-8 text that `readDataset` has found sound. A character that the end cuts through is left out. */
async function beginningOf(file: string, bytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of createReadStream(file, { end: bytes - 1 })) chunks.push(chunk as Uint8Array);
  return new TextDecoder().decode(Buffer.concat(chunks), { stream: true });
}

/** Whole sequences of `length`; what is left at the end is not used. */
function cut(ids: Int32Array, length: number): Int32Array[] {
  return Array.from({ length: Math.floor(ids.length / length) }, (_, i) => ids.slice(i * length, (i + 1) * length));
}

function* firstRecords(records: readonly DataRecord[], characters: number): Generator<DataRecord> {
  let left = characters;
  for (const record of records) {
    if (left <= 0) return;
    yield record.kind === 'text' ? { ...record, text: record.text.slice(0, left) } : record;
    if (record.kind === 'text') left -= record.text.length;
    else if (record.kind === 'completion') left -= record.prompt.length + record.completion.length;
    else left -= record.messages.reduce((sum, { content }) => sum + content.length, 0);
  }
}
