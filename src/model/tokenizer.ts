// A tokenizer.json as token ids and text, over @huggingface/tokenizers.
// Zone: edge and owner. `hash` names the tokenizer: caches and bundles carry it, so that ids of another model are noticed.

import { createHash } from 'node:crypto';
import { Tokenizer as Core } from '@huggingface/tokenizers';
import { MalformedError } from '../trusted/wire/errors.js';
import { isRecord, parseJsonObject } from './checkpoint/json-fields.js';
import { readTokenizerFiles, type TokenizerFiles } from './checkpoint/tokenizer-files.js';

export interface EncodeOptions {
  /** Whether the post-processor adds BOS and the like; true by default. Templates that write BOS themselves want false. */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leaves special tokens out of the text; false by default. */
  readonly skipSpecialTokens?: boolean;
}

export interface Tokenizer {
  /** Highest token id + 1; the model's vocabulary may be padded beyond it. */
  readonly vocabSize: number;
  /** SHA-256 over the bytes of tokenizer.json, lower-case hex. */
  readonly hash: string;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly padTokenId: number | null;
  readonly unkTokenId: number | null;
  readonly specialTokenIds: ReadonlySet<number>;
  /** Throws MalformedError when the vocabulary cannot express the text. */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** Throws MalformedError for an id outside the vocabulary. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** The id of a token given as its text (`<|im_end|>`), or undefined. */
  tokenToId(token: string): number | undefined;
  /** The token as the vocabulary spells it, or undefined. */
  idToToken(id: number): string | undefined;
  /** Text as ids arrive, for a terminal. */
  stream(options?: DecodeOptions): TextStream;
}

/** Turns ids into text piece by piece; a character is only given out once all its bytes are there. */
export interface TextStream {
  /** The text that this id completes, possibly empty. */
  push(id: number): string;
  /** What is left: the replacement character for bytes that never became one. */
  end(): string;
}

/** Opens the tokenizer of a folder, or of files that are in memory. Throws MalformedError naming the file. */
export async function openTokenizer(source: string | TokenizerFiles): Promise<Tokenizer> {
  const files = typeof source === 'string' ? await readTokenizerFiles(source) : source;
  return new JsonTokenizer(files, typeof source === 'string' ? `${source}/` : '');
}

class JsonTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly hash: string;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly padTokenId: number | null;
  readonly unkTokenId: number | null;
  readonly specialTokenIds: ReadonlySet<number>;
  readonly #core: Core;
  readonly #cleanUp: boolean;

  constructor(files: TokenizerFiles, prefix: string) {
    const name = `${prefix}tokenizer.json`;
    const json = parseJsonObject(files['tokenizer.json'], name);
    const configBytes = files['tokenizer_config.json'];
    const config = configBytes === undefined ? {} : parseJsonObject(configBytes, `${prefix}tokenizer_config.json`);
    const core = construct(json, config, name);
    this.#core = core;
    this.hash = createHash('sha256').update(files['tokenizer.json']).digest('hex');
    this.#cleanUp = config.clean_up_tokenization_spaces === true;
    const special = new Set<number>();
    for (const [id, token] of core.get_added_tokens_decoder()) if (token.special) special.add(id);
    this.specialTokenIds = special;
    this.vocabSize = (core.model?.vocab.length ?? 0) as number;
    const idOf = (key: string): number | null => {
      const value = config[key];
      const text = isRecord(value) ? value.content : value;
      return typeof text === 'string' ? (core.token_to_id(text) ?? null) : null;
    };
    this.bosTokenId = idOf('bos_token');
    this.eosTokenId = idOf('eos_token');
    this.padTokenId = idOf('pad_token');
    this.unkTokenId = idOf('unk_token');
  }

  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): Int32Array {
    const { ids, tokens } = this.#core.encode(text, { add_special_tokens: addSpecialTokens });
    // The type says number[], but a vocabulary without an unknown token gives holes.
    const hole = ids.findIndex((id: number | undefined) => id === undefined);
    if (hole >= 0) {
      throw new MalformedError(
        'token-unknown',
        `tokenizer.json has no token for "${tokens[hole]}" and no unknown token.`,
        {
          file: 'tokenizer.json',
        },
      );
    }
    return Int32Array.from(ids);
  }

  decode(ids: Iterable<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const list = Array.from(ids);
    for (const id of list) {
      if (this.#core.id_to_token(id) === undefined) {
        throw new MalformedError('token-unknown', `Token id ${id} is not in the vocabulary of ${this.vocabSize}.`, {
          id,
        });
      }
    }
    const kept = skipSpecialTokens ? list.filter((id) => !this.specialTokenIds.has(id)) : list;
    if (kept.length === 0) return '';
    return this.#core.decode(kept, { clean_up_tokenization_spaces: this.#cleanUp });
  }

  tokenToId(token: string): number | undefined {
    return this.#core.token_to_id(token);
  }

  idToToken(id: number): string | undefined {
    return this.#core.id_to_token(id);
  }

  stream(options: DecodeOptions = {}): TextStream {
    return textStream((ids) => this.decode(ids, options));
  }
}

function construct(json: Record<string, unknown>, config: Record<string, unknown>, file: string): Core {
  try {
    return new Core(withUnicodeDigits(json), config);
  } catch (error) {
    throw new MalformedError(
      'tokenizer-invalid',
      `${file} describes no tokenizer that can be used: fetch the file again or export the tokenizer in the current format.`,
      { file },
      error,
    );
  }
}

/**
 * The library's `Digits` splits at ASCII digits only, the original at every Unicode number; a `Split` says the same and is right.
 * `hash` is over the file as it is.
 */
function withUnicodeDigits(json: Record<string, unknown>): Record<string, unknown> {
  const fix = (step: unknown): unknown => {
    if (!isRecord(step)) return step;
    if (Array.isArray(step.pretokenizers)) return { ...step, pretokenizers: step.pretokenizers.map(fix) };
    if (step.type !== 'Digits') return step;
    return {
      type: 'Split',
      pattern: { Regex: step.individual_digits === true ? '\\p{N}' : '\\p{N}+' },
      behavior: 'Isolated',
      invert: false,
    };
  };
  return { ...json, pre_tokenizer: fix(json.pre_tokenizer) };
}

/** Decodes a short window twice per id and gives out what the new id adds, so leading-space rules of a decoder do not matter. */
function textStream(decode: (ids: number[]) => string): TextStream {
  let given: number[] = [];
  let pending: number[] = [];
  const flush = (force: boolean): string => {
    const before = given.length === 0 ? '' : decode(given);
    const after = decode([...given, ...pending]);
    if (!force && after.endsWith('\ufffd')) return '';
    const text = after.slice(before.length);
    // A window that shows no text (special tokens) would make the next piece look like the first one: keep what went before.
    given = text === '' ? [...given, ...pending] : pending;
    pending = [];
    return text;
  };
  return {
    push(id) {
      pending.push(id);
      return flush(false);
    },
    end: () => (pending.length === 0 ? '' : flush(true)),
  };
}
