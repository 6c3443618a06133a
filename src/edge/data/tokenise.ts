// Records → examples: template, BOS and EOS, which tokens count in the loss, and what happens to what is too long.
// Zone: edge (DESIGN section 8). A token counts when the text before the completion does not already determine it.
import { MalformedError } from '../../trusted/wire/errors.js';
import { type DataTemplate, renderChat, type Span } from './chat-spans.js';
import { countTargets, createExample, type Example } from './example.js';
import type { DataRecord, Message } from './record.js';

/** The part of a tokenizer that data needs; `model/tokenizer.ts` has it. */
export interface DataTokenizer {
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly specialTokenIds: ReadonlySet<number>;
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): Int32Array;
}

export interface TokeniseOptions {
  readonly maxLength: number;
  /** null: the tokenizer has none. */
  readonly template: DataTemplate | null;
  /** false: prompts and completions are joined as they are. */
  readonly applyChatTemplate: boolean;
  /** null: true for prompt/completion data, as in TRL. */
  readonly completionOnlyLoss: boolean | null;
  readonly assistantOnlyLoss: boolean;
  /** End texts and completions with EOS, unless a template does. */
  readonly appendEos: boolean;
}

export interface TokeniseReport {
  readonly records: number;
  readonly examples: number;
  readonly tokens: number;
  readonly targets: number;
  /** Texts longer than maxLength that were divided; every token still counts once. */
  readonly divided: number;
  /** Conversations and completions cut at maxLength. */
  readonly truncated: number;
  /** Records left out because nothing in their first maxLength tokens counts in the loss. */
  readonly dropped: number;
}

/** `maxLength` is at least 4. Throws MalformedError naming file and line when the loss options do not fit the data, or when no example is left. */
export function tokeniseRecords(
  records: Iterable<DataRecord>,
  tokenizer: DataTokenizer,
  options: TokeniseOptions,
): { examples: Example[]; report: TokeniseReport } {
  if (options.maxLength < 4)
    throw new MalformedError('max-length', `max_length ${options.maxLength} is too short; use at least 4`);
  const examples: Example[] = [];
  const count = { records: 0, divided: 0, truncated: 0, dropped: 0 };
  for (const record of records) {
    count.records += 1;
    if (record.kind === 'text') {
      const parts = tokeniseText(record, tokenizer, options);
      if (parts.length > 1) count.divided += 1;
      if (parts.length === 0) count.dropped += 1;
      for (const part of parts) examples.push(part);
      continue;
    }
    const whole =
      record.kind === 'messages' ? tokeniseChat(record, tokenizer, options) : tokenisePair(record, tokenizer, options);
    const cut = whole.inputIds.length > options.maxLength;
    const example = cut ? truncate(whole, options.maxLength) : whole;
    if (countTargets(example) === 0) count.dropped += 1;
    else {
      examples.push(example);
      if (cut) count.truncated += 1;
    }
  }
  if (examples.length === 0) {
    const reason = `none of ${count.records} records has a token that counts in the loss within max_length ${options.maxLength}`;
    throw new MalformedError('dataset-no-targets', `${reason}; raise max_length or check the loss options`);
  }
  const tokens = examples.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
  const targets = examples.reduce((sum, example) => sum + countTargets(example), 0);
  return { examples, report: { ...count, examples: examples.length, tokens, targets } };
}

function tokeniseText(
  record: DataRecord & { kind: 'text' },
  tokenizer: DataTokenizer,
  options: TokeniseOptions,
): Example[] {
  if (options.completionOnlyLoss === true)
    throw mismatch(record, 'completion_only_loss needs a prompt and a completion');
  if (options.assistantOnlyLoss) throw mismatch(record, 'assistant_only_loss needs messages');
  const ids = withEos(tokenizer.encode(record.text), tokenizer, options.appendEos);
  return divide(ids, ids[0] === tokenizer.bosTokenId ? 1 : 0, options.maxLength);
}

/**
 * Pieces of at most `maxLength` tokens. Each further piece repeats BOS, where there is one, and the last token of the piece
 * before it, which gives context and does not count: every token but the first counts exactly once.
 */
function divide(ids: Int32Array, bosCount: number, maxLength: number): Example[] {
  const pieces: Example[] = [];
  const context = bosCount + 1;
  let end = Math.min(ids.length, maxLength);
  if (end > 1) pieces.push(createExample(ids.slice(0, end), maskFrom(end, 1)));
  while (end < ids.length) {
    const start = end - 1;
    end = Math.min(ids.length, start + maxLength - bosCount);
    const piece = new Int32Array(bosCount + end - start);
    piece.set(ids.subarray(0, bosCount));
    piece.set(ids.subarray(start, end), bosCount);
    pieces.push(createExample(piece, maskFrom(piece.length, context)));
  }
  return pieces;
}

function tokeniseChat(
  record: DataRecord & { kind: 'messages' },
  tokenizer: DataTokenizer,
  options: TokeniseOptions,
): Example {
  if (options.completionOnlyLoss === true) {
    throw mismatch(
      record,
      'completion_only_loss needs a prompt and a completion; for messages set assistant_only_loss',
    );
  }
  if (options.template === null || !options.applyChatTemplate) {
    const reason = options.template === null ? 'the tokenizer has no chat template' : 'apply_chat_template is false';
    throw mismatch(record, `messages need a chat template and ${reason}`);
  }
  if (options.assistantOnlyLoss) return encodeChat(record.messages, tokenizer, options.template, record);
  const ids = tokenizer.encode(options.template.render(record.messages), { addSpecialTokens: false });
  return createExample(ids, maskFrom(ids.length, 1));
}

function tokenisePair(
  record: DataRecord & { kind: 'completion' },
  tokenizer: DataTokenizer,
  options: TokeniseOptions,
): Example {
  const { prompt, rawPrompt, completion } = record;
  const onlyCompletion = options.assistantOnlyLoss || options.completionOnlyLoss !== false;
  if (options.template !== null && options.applyChatTemplate) {
    const messages = [
      { role: 'user', content: prompt },
      { role: 'assistant', content: completion },
    ];
    if (onlyCompletion) return encodeChat(messages, tokenizer, options.template, record);
    const ids = tokenizer.encode(options.template.render(messages), { addSpecialTokens: false });
    return createExample(ids, maskFrom(ids.length, 1));
  }
  const ids = withEos(tokenizer.encode(rawPrompt + completion), tokenizer, options.appendEos);
  const first = onlyCompletion ? sharedTokens(tokenizer.encode(rawPrompt), ids) : 1;
  return createExample(ids, maskFrom(ids.length, Math.max(1, first)));
}

/** A conversation of which the assistant's turns count, each up to and including the token that ends it. */
function encodeChat(
  messages: readonly Message[],
  tokenizer: DataTokenizer,
  template: DataTemplate,
  record: DataRecord,
): Example {
  const { text, assistant } = renderChat(messages, template);
  if (assistant.length === 0) throw mismatch(record, 'there is no message of role "assistant" to learn from');
  const ids = tokenizer.encode(text, { addSpecialTokens: false });
  const mask = new Uint8Array(ids.length);
  for (const span of assistant)
    mask.fill(1, Math.max(1, tokensBefore(text, span.start, ids, tokenizer)), turnEnd(text, span, ids, tokenizer));
  return createExample(ids, mask);
}

/** Index of the first token that the first `characters` characters do not determine. */
function tokensBefore(text: string, characters: number, ids: Int32Array, tokenizer: DataTokenizer): number {
  if (characters === text.length) return ids.length;
  return sharedTokens(tokenizer.encode(text.slice(0, characters), { addSpecialTokens: false }), ids);
}

/** Templates write white space after the token that ends a turn; a model never generates it, so it does not count. */
function turnEnd(text: string, span: Span, ids: Int32Array, tokenizer: DataTokenizer): number {
  const end = tokensBefore(text, span.end, ids, tokenizer);
  const trimmed = text.slice(0, span.end).trimEnd().length;
  if (trimmed === span.end || trimmed <= span.start) return end;
  // Special tokens divide a text, so what follows one is tokenised by itself: no need to encode the whole text again.
  const space = tokenizer.encode(text.slice(trimmed, span.end), { addSpecialTokens: false });
  const first = end - space.length;
  const apart =
    first > 0 && space.every((id, i) => ids[first + i] === id) && tokenizer.specialTokenIds.has(ids[first - 1]!);
  if (apart) return first;
  const before = tokensBefore(text, trimmed, ids, tokenizer);
  return tokenizer.specialTokenIds.has(ids[before - 1]!) ? before : end;
}

function sharedTokens(a: Int32Array, b: Int32Array): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}

function withEos(ids: Int32Array, { eosTokenId }: DataTokenizer, append: boolean): Int32Array {
  if (!append || eosTokenId === null || ids[ids.length - 1] === eosTokenId) return ids;
  const ended = new Int32Array(ids.length + 1);
  ended.set(ids);
  ended[ids.length] = eosTokenId;
  return ended;
}

function truncate({ inputIds, lossMask }: Example, length: number): Example {
  return createExample(inputIds.slice(0, length), lossMask.slice(0, length));
}

/** `length` bits of which those from `first` on are 1. */
function maskFrom(length: number, first: number): Uint8Array {
  return new Uint8Array(length).fill(1, first);
}

function mismatch({ origin: { file, line } }: DataRecord, problem: string): MalformedError {
  return new MalformedError('dataset-mismatch', `${file}:${line}: ${problem}`, { file, line });
}
