// What stands around the BPE model in a tokenizer.json: normaliser, pre-tokenizer and decoder by llama.cpp's name for them.
// Zone: edge and owner. The regular expressions are those of the models' own tokenizer.json files.

import { UnsupportedError } from '../../trusted/wire/errors.js';

export interface TokenizerPipeline {
  readonly normalizer: object | null;
  readonly preTokenizer: object | null;
  readonly decoder: object;
  readonly ignoreMerges: boolean;
}

const byteLevelDecoder = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };

function byteLevel(useRegex: boolean): object {
  return { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex };
}

function split(pattern: string): object {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

function sequence(...pretokenizers: object[]): object {
  return { type: 'Sequence', pretokenizers };
}

/** The expression of GPT-4-like tokenizers; they differ in how many digits go together. */
function wordPattern(digits: string): string {
  return `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
}

const gpt2: TokenizerPipeline = {
  normalizer: null,
  preTokenizer: byteLevel(true),
  decoder: byteLevelDecoder,
  ignoreMerges: false,
};

const smollm: TokenizerPipeline = { ...gpt2, preTokenizer: sequence(split('\\p{N}'), byteLevel(true)) };

const llama3: TokenizerPipeline = {
  ...gpt2,
  preTokenizer: sequence(split(wordPattern('\\p{N}{1,3}')), byteLevel(false)),
  ignoreMerges: true,
};

const qwen2: TokenizerPipeline = {
  ...gpt2,
  normalizer: { type: 'NFC' },
  preTokenizer: sequence(split(wordPattern('\\p{N}')), byteLevel(false)),
};

const byteLevelKinds: ReadonlyMap<string, TokenizerPipeline> = new Map([
  ['gpt-2', gpt2],
  ['default', gpt2],
  ['smollm', smollm],
  ['llama-bpe', llama3],
  ['llama3', llama3],
  ['llama-v3', llama3],
  ['qwen2', qwen2],
  ['deepseek-r1-qwen', qwen2],
]);

/** `pre` is the metadata key `tokenizer.ggml.pre`. Throws UnsupportedError listing the known kinds. */
export function byteLevelPipeline(pre: string, file: string): TokenizerPipeline {
  const pipeline = byteLevelKinds.get(pre);
  if (pipeline !== undefined) return pipeline;
  throw new UnsupportedError(
    'tokenizer-unsupported',
    `${file}: "tokenizer.ggml.pre" is "${pre}"; supported are ${[...byteLevelKinds.keys()].join(', ')}. Use the safetensors checkpoint.`,
    { file, key: 'tokenizer.ggml.pre' },
  );
}

/** SentencePiece BPE: spaces become U+2581, unknown characters become byte tokens. */
export function sentencePiecePipeline(addSpacePrefix: boolean): TokenizerPipeline {
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' };
  const normalizers = addSpacePrefix ? [{ type: 'Prepend', prepend: '\u2581' }, spaces] : [spaces];
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  const decoders = [
    { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ];
  return {
    normalizer: { type: 'Sequence', normalizers },
    preTokenizer: null,
    decoder: { type: 'Sequence', decoders: addSpacePrefix ? [...decoders, strip] : decoders },
    ignoreMerges: false,
  };
}
