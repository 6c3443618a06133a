// Tokenizer files from GGUF metadata: tokenizer.json, tokenizer_config.json with the chat template, generation_config.json.
// Zone: edge and owner. `gpt2` vocabularies are byte-level BPE with a named pre-tokenizer, `llama` ones SentencePiece with scores.

import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { DecoderConfig } from '../config.js';
import type { GgufValue } from './gguf-header.js';
import { byteLevelPipeline, sentencePiecePipeline } from './gguf-pipelines.js';
import { JsonFields } from './json-fields.js';
import { scoreMerges } from './score-merges.js';
import type { TokenizerFiles } from './tokenizer-files.js';

/** ggml's token types. */
const tokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
}

/** Throws UnsupportedError for a tokenizer kind not built here, MalformedError for missing or inconsistent metadata. */
export function ggufTokenizer(
  metadata: Readonly<Record<string, GgufValue>>,
  config: DecoderConfig,
  file: string,
): TokenizerFiles {
  const fields = new JsonFields(metadata, file);
  const kind = fields.text('tokenizer.ggml.model');
  if (kind !== 'gpt2' && kind !== 'llama') {
    throw new UnsupportedError(
      'tokenizer-unsupported',
      `${file}: "tokenizer.ggml.model" is "${kind}"; supported are gpt2 (byte-level BPE) and llama (SentencePiece).`,
      { file, key: 'tokenizer.ggml.model' },
    );
  }
  const vocabulary = readVocabulary(fields);
  const bos = config.bosTokenId === null ? undefined : vocabulary.tokens[config.bosTokenId];
  const pre = fields.text('tokenizer.ggml.pre', 'gpt-2');
  const addBos = fields.flag('tokenizer.ggml.add_bos_token', kind === 'llama' || pre === 'llama-bpe');
  const pipeline =
    kind === 'gpt2'
      ? byteLevelPipeline(pre, file)
      : sentencePiecePipeline(fields.flag('tokenizer.ggml.add_space_prefix', true));
  const unknown = vocabulary.types.indexOf(tokenType.unknown);
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: pipeline.normalizer,
    pre_tokenizer: pipeline.preTokenizer,
    post_processor: addBos && bos !== undefined ? prepend(bos, config.bosTokenId!) : null,
    decoder: pipeline.decoder,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: kind === 'llama' && unknown >= 0 ? vocabulary.tokens[unknown] : null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: kind === 'llama',
      byte_fallback: kind === 'llama',
      ignore_merges: pipeline.ignoreMerges,
      vocab: Object.fromEntries(vocabulary.tokens.map((token, id) => [token, id])),
      merges: kind === 'gpt2' ? readMerges(fields) : spMerges(fields, vocabulary),
    },
  };
  const template = fields.get('tokenizer.chat_template');
  const text = (id: number | null | undefined): string | null =>
    id === null || id === undefined ? null : (vocabulary.tokens[id] ?? null);
  const tokenizerConfig = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: text(config.bosTokenId),
    eos_token: text(config.eosTokenIds[0]),
    unk_token: text(fields.tokenId('tokenizer.ggml.unknown_token_id')),
    pad_token: text(config.padTokenId),
    add_bos_token: addBos,
    clean_up_tokenization_spaces: false,
    model_max_length: config.maxPositionEmbeddings,
    ...(typeof template === 'string' ? { chat_template: template } : {}),
  };
  const generation = {
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenIds,
    pad_token_id: config.padTokenId,
  };
  return {
    'tokenizer.json': toBytes(json),
    'tokenizer_config.json': toBytes(tokenizerConfig),
    'generation_config.json': toBytes(generation),
  };
}

function readVocabulary(fields: JsonFields): Vocabulary {
  const key = 'tokenizer.ggml.tokens';
  const tokens = fields.get(key);
  if (!Array.isArray(tokens) || !tokens.every((token) => typeof token === 'string'))
    throw fields.wrong(key, 'a list of strings');
  const repeated = tokens.length - new Set(tokens).size;
  if (repeated > 0) {
    throw new MalformedError('vocabulary-duplicate', `${fields.file}: "${key}" holds ${repeated} tokens twice.`, {
      file: fields.file,
      key,
    });
  }
  const types = fields.get('tokenizer.ggml.token_type') ?? tokens.map(() => tokenType.normal);
  if (!Array.isArray(types) || types.length !== tokens.length || !types.every((type) => typeof type === 'number')) {
    throw fields.wrong('tokenizer.ggml.token_type', `a list of ${tokens.length} numbers`);
  }
  return { tokens, types };
}

function addedTokens({ tokens, types }: Vocabulary): object[] {
  return tokens.flatMap((content, id) => {
    const type = types[id];
    if (type !== tokenType.control && type !== tokenType.unknown && type !== tokenType.userDefined) return [];
    const special = type !== tokenType.userDefined;
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
}

function readMerges(fields: JsonFields): string[][] {
  const key = 'tokenizer.ggml.merges';
  const merges = fields.get(key);
  if (!Array.isArray(merges)) throw fields.wrong(key, 'a list of pairs');
  return merges.map((merge: unknown) => {
    // The space between the two pieces is the only one that is not at the very start: byte-level pieces contain none.
    const cut = typeof merge === 'string' ? merge.indexOf(' ', 1) : -1;
    if (typeof merge !== 'string' || cut < 0) throw fields.wrong(key, 'a list of pairs');
    return [merge.slice(0, cut), merge.slice(cut + 1)];
  });
}

function spMerges(fields: JsonFields, { tokens, types }: Vocabulary): [string, string][] {
  const scores = fields.get('tokenizer.ggml.scores');
  if (!Array.isArray(scores) || scores.length !== tokens.length)
    throw fields.wrong('tokenizer.ggml.scores', `a list of ${tokens.length} numbers`);
  const pieces = tokens.map((text, id) => ({ text, score: Number(scores[id]), type: types[id] }));
  return scoreMerges(pieces.filter(({ type }) => type === tokenType.normal));
}

function prepend(token: string, id: number): object {
  const bos = (type: number): object => ({ SpecialToken: { id: token, type_id: type } });
  const text = (name: string, type: number): object => ({ Sequence: { id: name, type_id: type } });
  return {
    type: 'TemplateProcessing',
    single: [bos(0), text('A', 0)],
    pair: [bos(0), text('A', 0), bos(1), text('B', 1)],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

function toBytes(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}
