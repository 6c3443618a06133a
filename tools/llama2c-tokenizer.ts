// A llama2.c vocabulary (pieces with scores) as a Hugging Face tokenizer that gives the same ids.
// Spaces stay literal, so U+2581 in a text goes to byte tokens as in the original.

import { type ScoredPiece, scoreMerges } from '../src/model/checkpoint/score-merges.js';
import type { TokenizerFiles } from '../src/model/checkpoint/tokenizer-files.js';
import type { DecoderConfig } from '../src/model/config.js';

/** int32 longest piece, then per piece: float32 score, int32 length, bytes. */
export function parseLlama2cVocabulary(bytes: Buffer): ScoredPiece[] {
  const pieces: ScoredPiece[] = [];
  let position = 4;
  while (position < bytes.length) {
    const length = bytes.readInt32LE(position + 4);
    pieces.push({
      score: bytes.readFloatLE(position),
      text: bytes.toString('utf8', position + 8, position + 8 + length),
    });
    position += 8 + length;
  }
  return pieces;
}

/** Ids 0 to 2 are named as usual (`<unk>`, `<s>`, `</s>`); the original pads two of them with line breaks. */
export function llama2cTokenizer(vocabulary: readonly ScoredPiece[], config: DecoderConfig): TokenizerFiles {
  const special = ['<unk>', '<s>', '</s>'];
  const pieces = vocabulary.map((piece, id) => ({ ...piece, text: special[id] ?? piece.text }));
  const ids = new Map(pieces.map((piece, id) => [piece.text, id]));
  const added = special.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: { type: 'Prepend', prepend: ' ' },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [
        { SpecialToken: { id: '<s>', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { SpecialToken: { id: '<s>', type_id: 1 } },
        { Sequence: { id: 'B', type_id: 1 } },
      ],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(ids),
      merges: scoreMerges(pieces.slice(3).filter((piece) => !/^<0x..>$/.test(piece.text))),
    },
  };
  const tokenizerConfig = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: '<s>',
    eos_token: '</s>',
    unk_token: '<unk>',
    add_bos_token: true,
    add_eos_token: false,
    clean_up_tokenization_spaces: false,
    model_max_length: config.maxPositionEmbeddings,
  };
  const generation = { bos_token_id: config.bosTokenId, eos_token_id: config.eosTokenIds, do_sample: false };
  return {
    'tokenizer.json': toBytes(json),
    'tokenizer_config.json': toBytes(tokenizerConfig),
    'generation_config.json': toBytes(generation),
  };
}

function toBytes(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 1)}\n`);
}
