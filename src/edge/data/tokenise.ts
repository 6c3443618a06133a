// Records → examples: template, BOS and EOS, which tokens count in the loss, and what happens to what is too long.
// Zone: edge (DESIGN section 8). A token counts when the text before the completion does not already determine it.
import { MalformedError } from '../../trusted/wire/errors.js';
import { ChatEncoder, type DataTokenizer, mismatch, sharedTokens } from './chat-example.js';
import type { DataTemplate } from './chat-spans.js';
import { countTargets, createExample, type Example } from './example.js';
import type { DataRecord } from './record.js';

export type { DataTokenizer } from './chat-example.js';

/** What becomes of a record of more than `maxLength` tokens; `auto` divides texts and cuts everything else. */
export type ExcessLength = 'auto' | 'truncate' | 'drop' | 'raise';

export interface TokeniseOptions {
  readonly maxLength: number;
  /** Default `auto`. */
  readonly excessLength?: ExcessLength;
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

/** `untargeted`: nothing in its first `maxLength` tokens counts in the loss; `left-out`: longer than `maxLength`, with `drop`. */
export type Fate = 'whole' | 'divided' | 'truncated' | 'untargeted' | 'left-out';

export interface TokenisedRecord {
  /** None when the record is untargeted or left out. */
  readonly examples: readonly Example[];
  readonly fate: Fate;
  /** Tokens of the record before it is divided or cut. */
  readonly length: number;
}

export interface TokeniseReport {
  readonly records: number;
  readonly examples: number;
  readonly tokens: number;
  readonly targets: number;
  /** Texts longer than maxLength that were divided; every token still counts once. */
  readonly divided: number;
  /** Records cut at maxLength. */
  readonly truncated: number;
  /** Records left out because nothing in their first maxLength tokens counts in the loss. */
  readonly dropped: number;
  /** Records left out because they are longer than maxLength. */
  readonly leftOut: number;
  /** Records of more than maxLength tokens, whatever became of them. */
  readonly tooLong: number;
  /** Tokens of the longest record. */
  readonly longest: number;
  /** Tokens that are in no example because their record is too long. */
  readonly lostTokens: number;
}

/** Turns records into examples, one at a time. */
export class Tokeniser {
  readonly #tokenizer: DataTokenizer;
  readonly #options: TokeniseOptions;
  readonly #chat: ChatEncoder | null;

  /** `maxLength` is at least 4. */
  constructor(tokenizer: DataTokenizer, options: TokeniseOptions) {
    if (options.maxLength < 4)
      throw new MalformedError('max-length', `max_length ${options.maxLength} is too short; use at least 4`);
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#chat =
      options.template === null || !options.applyChatTemplate ? null : new ChatEncoder(tokenizer, options.template);
  }

  /** Throws MalformedError naming file and line when the loss options do not fit the data, and what `ChatEncoder` throws. */
  tokenise(record: DataRecord): TokenisedRecord {
    const { maxLength, excessLength = 'auto' } = this.#options;
    const ids = record.kind === 'text' ? this.#text(record) : null;
    const whole = ids === null ? this.#example(record as Exclude<DataRecord, { kind: 'text' }>) : null;
    const length = (ids ?? whole!.inputIds).length;
    const tooLong = length > maxLength;
    if (tooLong && excessLength === 'raise') {
      const { file, line } = record.origin;
      const message = `${file}:${line}: has ${length} tokens and max_length is ${maxLength}; raise max_length, or let excess_length_strategy divide, cut or drop`;
      throw new MalformedError('example-too-long', message, { file, line, length, maxLength });
    }
    if (tooLong && excessLength === 'drop') return { examples: [], fate: 'left-out', length };
    if (ids !== null && !(tooLong && excessLength === 'truncate')) {
      const examples = divide(ids, ids[0] === this.#tokenizer.bosTokenId ? 1 : 0, maxLength);
      return { examples, fate: examples.length === 0 ? 'untargeted' : tooLong ? 'divided' : 'whole', length };
    }
    const full = whole ?? createExample(ids!, maskFrom(length, 1));
    const example = tooLong ? truncate(full, maxLength) : full;
    if (countTargets(example) === 0) return { examples: [], fate: 'untargeted', length };
    return { examples: [example], fate: tooLong ? 'truncated' : 'whole', length };
  }

  #text({ text, origin }: DataRecord & { kind: 'text' }): Int32Array {
    const { completionOnlyLoss, assistantOnlyLoss, appendEos } = this.#options;
    if (completionOnlyLoss === true) throw mismatch(origin, 'completion_only_loss needs a prompt and a completion');
    if (assistantOnlyLoss) throw mismatch(origin, 'assistant_only_loss needs messages');
    return withEos(this.#tokenizer.encode(text), this.#tokenizer, appendEos);
  }

  #example(record: Exclude<DataRecord, { kind: 'text' }>): Example {
    const { completionOnlyLoss, assistantOnlyLoss, appendEos, template } = this.#options;
    const onlyCompletion = assistantOnlyLoss || completionOnlyLoss !== false;
    const { origin } = record;
    if (record.kind === 'messages') {
      if (this.#chat === null) {
        const reason = template === null ? 'the tokenizer has no chat template' : 'apply_chat_template is false';
        throw mismatch(origin, `messages need a chat template and ${reason}`);
      }
      if (record.completionFrom !== undefined)
        return onlyCompletion ? this.#chat.encodeAnswers(record, record.completionFrom) : this.#chat.encode(record);
      if (completionOnlyLoss === true)
        throw mismatch(
          origin,
          'completion_only_loss needs a prompt and a completion; for messages set assistant_only_loss',
        );
      return assistantOnlyLoss ? this.#chat.encodeAnswers(record) : this.#chat.encode(record);
    }
    const { prompt, rawPrompt, completion } = record;
    if (this.#chat !== null) {
      const messages = [
        { role: 'user', content: prompt },
        { role: 'assistant', content: completion },
      ];
      const conversation = { messages, origin };
      return onlyCompletion ? this.#chat.encodeAnswers(conversation) : this.#chat.encode(conversation);
    }
    const ids = withEos(this.#tokenizer.encode(rawPrompt + completion), this.#tokenizer, appendEos);
    const first = onlyCompletion ? sharedTokens(this.#tokenizer.encode(rawPrompt), ids) : 1;
    return createExample(ids, maskFrom(ids.length, Math.max(1, first)));
  }
}

/** All records as examples. Throws what `Tokeniser` throws, and MalformedError('dataset-no-targets') when no example is left. */
export function tokeniseRecords(
  records: Iterable<DataRecord>,
  tokenizer: DataTokenizer,
  options: TokeniseOptions,
): { examples: Example[]; report: TokeniseReport } {
  const tokeniser = new Tokeniser(tokenizer, options);
  const examples: Example[] = [];
  const fates: Record<Fate, number> = { whole: 0, divided: 0, truncated: 0, untargeted: 0, 'left-out': 0 };
  const count = { records: 0, tooLong: 0, longest: 0, lostTokens: 0 };
  for (const record of records) {
    const { examples: made, fate, length } = tokeniser.tokenise(record);
    for (const example of made) examples.push(example);
    fates[fate] += 1;
    count.records += 1;
    count.longest = Math.max(count.longest, length);
    if (length <= options.maxLength) continue;
    count.tooLong += 1;
    if (fate !== 'divided') count.lostTokens += length - (made[0]?.inputIds.length ?? 0);
  }
  if (examples.length === 0) {
    const reason = `none of ${count.records} records has a token that counts in the loss within max_length ${options.maxLength}`;
    throw new MalformedError('dataset-no-targets', `${reason}; raise max_length or check the loss options`);
  }
  const tokens = examples.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
  const targets = examples.reduce((sum, example) => sum + countTargets(example), 0);
  const { divided, truncated, untargeted: dropped, 'left-out': leftOut } = fates;
  return {
    examples,
    report: { ...count, divided, truncated, dropped, leftOut, examples: examples.length, tokens, targets },
  };
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
