// Token ids: stories260K against a plain llama2.c encoder, SmolLM2 from GGUF metadata against the reference, decoding, streaming.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { byteLevelPipeline } from '../../src/model/checkpoint/gguf-pipelines.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { openTokenizer, type Tokenizer } from '../../src/model/tokenizer.js';
import { parseLlama2cVocabulary } from '../../tools/llama2c-tokenizer.js';
import { failsWith, readJson, smollm2File, storiesFolder, tinyLlama, tinyQwen2 } from './fixtures.js';

/** llama2.c's encoder, written plainly: characters or bytes first, then the best-scored adjacent pair until none is left. */
function plainEncoder(vocabulary: Buffer): (text: string) => number[] {
  const pieces = parseLlama2cVocabulary(vocabulary);
  const ids = new Map(pieces.map(({ text }, id) => [text, id]));
  return (text) => {
    const tokens = [1];
    for (const character of text === '' ? '' : ` ${text}`) {
      const id = ids.get(character);
      if (id !== undefined) tokens.push(id);
      else for (const byte of Buffer.from(character)) tokens.push(byte + 3);
    }
    for (;;) {
      let best = { score: Number.NEGATIVE_INFINITY, id: -1, at: -1 };
      for (let at = 0; at + 1 < tokens.length; at++) {
        const id = ids.get(pieces[tokens[at]!]!.text + pieces[tokens[at + 1]!]!.text);
        if (id !== undefined && pieces[id]!.score > best.score) best = { score: pieces[id]!.score, id, at };
      }
      if (best.at < 0) return tokens;
      tokens.splice(best.at, 2, best.id);
    }
  };
}

let stories: Tokenizer;
let plain: (text: string) => number[];

before(async () => {
  stories = await openTokenizer(storiesFolder);
  plain = plainEncoder(await readFile('test/fixtures/stories260k/tok512.bin'));
});

test('stories260K: the ids of expected.json', async () => {
  const { cases } = await readJson<{
    cases: { prompt: string; promptIds: number[]; greedyIds: number[]; greedyText: string }[];
  }>('test/fixtures/stories260k/expected.json');
  for (const { prompt, promptIds, greedyIds, greedyText } of cases) {
    assert.deepEqual([...stories.encode(prompt)], promptIds);
    assert.equal(` ${stories.decode([...promptIds.slice(1), ...greedyIds])}`, greedyText);
  }
  assert.deepEqual([stories.bosTokenId, stories.eosTokenId, stories.unkTokenId, stories.padTokenId], [1, 2, 0, null]);
  assert.equal(stories.vocabSize, 512);
});

test('stories260K: the ids of the original encoder on stories', async () => {
  const valid = await readFile('assets/text/valid.txt', 'utf8');
  const train = await readFile('assets/text/train.txt', 'utf8');
  const texts = `${valid}${train}`.split('<|endoftext|>').slice(0, 250);
  assert.equal(texts.length, 250);
  for (const text of texts) assert.deepEqual([...stories.encode(text)], plain(text), text);
});

test('stories260K: the ids of the original encoder on any text', () => {
  const awkward = ['', ' ', '   ', '......', 'hehehe  he', 'a\n\nb\t ▁x "é" 日本 🙂', '<0x0A>', '\u0000'];
  for (const text of awkward) assert.deepEqual([...stories.encode(text)], plain(text), JSON.stringify(text));
  const words = fc.array(fc.constantFrom(' ', 'the', 'he', 'Once', 't', 'e', '.', '"', '\n', 'é', '▁', '🙂'), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(words, fc.string({ unit: 'grapheme' }), (list, other) => {
      for (const text of [list.join(''), other]) {
        if (/<unk>|<\/?s>/.test(text)) continue;
        assert.deepEqual([...stories.encode(text)], plain(text));
        assert.equal(stories.decode(stories.encode(text), { skipSpecialTokens: true }), text);
      }
    }),
  );
});

test('special tokens: added, left out, named, skipped', () => {
  assert.deepEqual([...stories.encode('Once', { addSpecialTokens: false })], [...stories.encode('Once')].slice(1));
  assert.deepEqual([...stories.specialTokenIds], [0, 1, 2]);
  assert.equal(stories.tokenToId('</s>'), 2);
  assert.equal(stories.idToToken(1), '<s>');
  assert.equal(
    stories.decode([1, 403, 407, 2]),
    `<s>${stories.decode([1, 403, 407], { skipSpecialTokens: true }).replace(/^/, ' ')}</s>`,
  );
  assert.equal(stories.decode([]), '');
  assert.throws(() => stories.decode([512]), failsWith('token-unknown', '512'));
});

test('the hash is that of the file and differs between models', async () => {
  assert.match(stories.hash, /^[0-9a-f]{64}$/);
  const again = await openTokenizer({ 'tokenizer.json': await readFile(`${storiesFolder}/tokenizer.json`) });
  assert.equal(again.hash, stories.hash);
  const other = await openCheckpoint(tinyQwen2);
  assert.notEqual((await openTokenizer(other.tokenizer)).hash, stories.hash);
  await other.tensors.close();
  await assert.rejects(
    openTokenizer({ 'tokenizer.json': Buffer.from('{') }),
    failsWith('json-invalid', 'tokenizer.json'),
  );
  await assert.rejects(
    openTokenizer({ 'tokenizer.json': Buffer.from('{}') }),
    failsWith('tokenizer-invalid', 'tokenizer.json'),
  );
  await assert.rejects(openTokenizer('test/fixtures'), failsWith('file-missing', 'tokenizer.json'));
});

test('a stream never splits a character and adds up to the whole text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 20 }), (raw) => {
      const text = `Once ${raw} 日本🙂 the end`.replaceAll('\ufffd', '');
      const stream = stories.stream({ skipSpecialTokens: true });
      const parts = [...stories.encode(text)].map((id) => stream.push(id));
      assert.ok(
        parts.every((part) => !part.includes('\ufffd')),
        JSON.stringify(parts),
      );
      assert.equal(parts.join('') + stream.end(), text);
    }),
  );
  const cut = stories.stream();
  assert.equal(cut.push(0xf0 + 3), '');
  assert.equal(cut.end(), '\ufffd');
});

test('SentencePiece metadata gives the ids of the original vocabulary', async () => {
  const checkpoint = await openCheckpoint(tinyLlama);
  const tokenizer = await openTokenizer(checkpoint.tokenizer);
  for (const text of ['Once upon a time', '', 'Lily said, "é 日本 🙂"\n\nThe  end.']) {
    assert.deepEqual([...tokenizer.encode(text)], plain(text), text);
    assert.equal(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true }), text);
  }
  assert.equal(tokenizer.bosTokenId, 1);
  await checkpoint.tensors.close();
});

test('byte-level metadata: merges, special tokens in text, digits one by one', async () => {
  const checkpoint = await openCheckpoint(tinyQwen2);
  const tokenizer = await openTokenizer(checkpoint.tokenizer);
  const tokens = (text: string): (string | undefined)[] =>
    [...tokenizer.encode(text)].map((id) => tokenizer.idToToken(id));
  assert.deepEqual(tokens('hello world<|im_end|>'), ['hello', 'Ġwor', 'ld', '<|im_end|>']);
  assert.deepEqual(tokens('12'), ['1', '2']);
  assert.equal(tokenizer.decode(tokenizer.encode('é 日本 12')), 'é 日本 12');
  await checkpoint.tensors.close();
});

test('SmolLM2: ids of 50 varied texts', {
  skip: smollm2File() === undefined && 'run tools/fetch-smollm2.sh first',
}, async () => {
  const { texts } = await readJson<{ texts: { text: string; ids: number[] }[] }>(
    'test/fixtures/smollm2/reference.json',
  );
  assert.equal(texts.length, 50);
  const checkpoint = await openCheckpoint(smollm2File()!);
  const tokenizer = await openTokenizer(checkpoint.tokenizer);
  for (const { text, ids } of texts) {
    assert.deepEqual([...tokenizer.encode(text)], ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids), text);
  }
  await checkpoint.tensors.close();
});

test('pre-tokenizers of GPT-2, Llama 3 and Qwen2: ids of the same texts', {
  skip: smollm2File() === undefined && 'run tools/fetch-smollm2.sh first',
}, async () => {
  const reference = await readJson<{ texts: { text: string }[]; pipelines: Record<string, number[][]> }>(
    'test/fixtures/smollm2/reference.json',
  );
  const checkpoint = await openCheckpoint(smollm2File()!);
  await checkpoint.tensors.close();
  const json = JSON.parse(Buffer.from(checkpoint.tokenizer['tokenizer.json']).toString());
  assert.deepEqual(Object.keys(reference.pipelines), ['gpt-2', 'llama-bpe', 'qwen2']);
  for (const [kind, expected] of Object.entries(reference.pipelines)) {
    const { normalizer, preTokenizer, ignoreMerges } = byteLevelPipeline(kind, 'x.gguf');
    const model = { ...json.model, ignore_merges: ignoreMerges };
    const changed = { ...json, normalizer, pre_tokenizer: preTokenizer, model };
    const tokenizer = await openTokenizer({ 'tokenizer.json': Buffer.from(JSON.stringify(changed)) });
    for (const [i, { text }] of reference.texts.entries()) {
      assert.deepEqual([...tokenizer.encode(text)], expected[i], `${kind}: ${JSON.stringify(text)}`);
    }
  }
  assert.notDeepEqual(reference.pipelines['gpt-2'], reference.pipelines.qwen2);
  assert.throws(() => byteLevelPipeline('tekken', 'x.gguf'), failsWith('tokenizer-unsupported', 'tekken', 'llama-bpe'));
});

test('a Digits step splits at every Unicode number, as in the original library', async () => {
  const file = JSON.parse(await readFile(`${storiesFolder}/tokenizer.json`, 'utf8'));
  const step = { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }] };
  const vocab = { '<unk>': 0, '1': 1, '2': 2, '12': 3, '²': 4, '2²': 5 };
  const merges = [
    ['1', '2'],
    ['2', '²'],
  ];
  const model = { ...file.model, vocab, merges, byte_fallback: false };
  const changed = { ...file, added_tokens: [], normalizer: null, post_processor: null, pre_tokenizer: step, model };
  const tokenizer = await openTokenizer({ 'tokenizer.json': Buffer.from(JSON.stringify(changed)) });
  assert.deepEqual([...tokenizer.encode('12²')], [1, 2, 4]);
});
