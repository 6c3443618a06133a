// GGUF: block formats against the `gguf` package, whole tiny models against transformers, damage of every kind.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { gguf as otherReader } from '@huggingface/gguf';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { llama3Factors, parseGgufConfig } from '../../src/model/checkpoint/gguf-config.js';
import { blockFormat } from '../../src/model/checkpoint/gguf-dequantise.js';
import { type GgufHeader, needMore, parseGgufHeader } from '../../src/model/checkpoint/gguf-header.js';
import { type Checkpoint, readConfig } from '../../src/model/checkpoint/hf-directory.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { openSafetensors } from '../../src/model/checkpoint/safetensors.js';
import { familyOf } from '../../src/model/families/index.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import { failsWith, inTemporaryFolder, readJson, tinyLlama, tinyQwen2 } from './fixtures.js';

interface Blocks {
  name: string;
  type: number;
  blocks: string;
  floats: string;
}

test('every block format gives the reference floats, bit for bit', async () => {
  const fixtures = await readJson<Blocks[]>('test/fixtures/gguf/blocks.json');
  assert.equal(fixtures.length, 11);
  for (const { name, type, blocks, floats } of fixtures) {
    const format = blockFormat(type, 't', 'f');
    assert.equal(format.name, name);
    const bytes = Uint8Array.from(Buffer.from(blocks, 'base64'));
    const expected = new Float32Array(Uint8Array.from(Buffer.from(floats, 'base64')).buffer);
    const out = new Float32Array((bytes.length / format.blockBytes) * format.blockSize);
    assert.equal(out.length, expected.length, name);
    format.dequantise(bytes, out);
    assert.deepEqual(out, expected, name);
  }
  assert.throws(
    () => blockFormat(10, 'blk.0.x', 'm.gguf'),
    failsWith('quantisation-unsupported', 'm.gguf', 'blk.0.x', 'Q2_K', 'Q4_K'),
  );
  assert.throws(() => blockFormat(99, 'blk.0.x', 'm.gguf'), failsWith('quantisation-unsupported', 'type 99'));
});

type Expected = Record<string, Record<string, [number[], number, number]>>;

async function agrees(checkpoint: Checkpoint, name: string): Promise<void> {
  const expected = (await readJson<Expected>('test/fixtures/gguf/expected.json'))[name]!;
  let compared = 0;
  for (const [tensor, [shape, sum, weighted]] of Object.entries(expected)) {
    if (tensor === 'lm_head.weight' && checkpoint.config.tieWordEmbeddings) continue;
    assert.deepEqual(checkpoint.tensors.info(tensor).shape, shape, tensor);
    const values = await checkpoint.tensors.read(tensor);
    const found = values.reduce(([a, b], value, i) => [a! + value, b! + value * ((i % 97) + 1)], [0, 0]);
    assert.ok(Math.abs(found[0]! - sum) < 1e-3, `${tensor}: sum ${found[0]} for ${sum}`);
    assert.ok(Math.abs(found[1]! - weighted) < 1e-2, `${tensor}: weighted sum ${found[1]} for ${weighted}`);
    if (shape.length === 2) {
      const [rows, width] = shape as [number, number];
      const some = await checkpoint.tensors.readRows!(tensor, 3, rows - 4);
      assert.deepEqual(some, values.slice(3 * width, (rows - 1) * width), tensor);
    }
    compared++;
  }
  assert.equal(compared, checkpoint.tensors.list().length);
}

test('llama: names, shapes and undone row order agree with transformers', async () => {
  const checkpoint = await openCheckpoint(tinyLlama);
  assert.equal(checkpoint.config.modelType, 'llama');
  assert.deepEqual(
    [checkpoint.config.tieWordEmbeddings, checkpoint.config.headDim, checkpoint.config.rmsNormEps],
    [false, 16, 1e-5],
  );
  await agrees(checkpoint, 'tiny-llama');
  await checkpoint.tensors.close();
});

test('qwen2: biases, tied head, rows as they are', async () => {
  const checkpoint = await openCheckpoint(tinyQwen2);
  const { config } = checkpoint;
  assert.deepEqual(
    [config.modelType, config.qkvBias, config.outputBias, config.tieWordEmbeddings],
    ['qwen2', true, false, true],
  );
  assert.equal(config.ropeTheta, 1000000);
  await agrees(checkpoint, 'tiny-qwen2');
  await checkpoint.tensors.close();
});

for (const [architecture, family] of [
  ['qwen3', 'qwen3'],
  ['gemma3', 'gemma3_text'],
  ['phi3', 'phi3'],
] as const) {
  test(`${architecture}: as from safetensors, names by the gguf package's table`, async () => {
    const checkpoint = await openCheckpoint(`test/fixtures/gguf/tiny-${architecture}.gguf`);
    const folder = `test/fixtures/families/${family}`;
    const config = await readConfig(`${folder}/config.json`);
    // The fixture's own factor on q·k is the one thing that GGUF does not state: llama.cpp takes the heads' width.
    const attentionScale = family === 'gemma3_text' ? config.headDim ** -0.5 : null;
    const { rmsNormEps, ...stated } = checkpoint.config;
    assert.ok(Math.abs(rmsNormEps / config.rmsNormEps - 1) < 1e-6);
    const { rmsNormEps: _, ...expected } = { ...config, attentionScale };
    assert.deepEqual(stated, expected);
    const stored = await openSafetensors(`${folder}/model.safetensors`);
    const tensors = familyOf(family, folder).importTensors?.(stored, config) ?? stored;
    for (const { name, shape } of expectedTensors(config)) {
      assert.deepEqual(checkpoint.tensors.info(name).shape, shape, name);
      assert.deepEqual(await checkpoint.tensors.read(name), await tensors.read(name), name);
    }
    await checkpoint.tensors.close();
    await stored.close();
  });
}

test('phi3 with two sets of frequency factors is refused by tensor', async () => {
  await inTemporaryFolder(async (folder) => {
    const whole = await readFile('test/fixtures/gguf/tiny-phi3.gguf');
    // Same length: the header stays whole.
    const at = whole.indexOf('blk.1.attn_norm.weight');
    whole.write('rope_factors_long.weig', at);
    const file = join(folder, 'long.gguf');
    await writeFile(file, whole);
    await assert.rejects(openCheckpoint(file), failsWith('rope-unsupported', 'rope_factors_long', 'longrope'));
  });
});

let whole: Buffer;
let header: GgufHeader;
let headerEnd = 0;

before(async () => {
  whole = await readFile(tinyQwen2);
  const parsed = parseGgufHeader(whole, whole.length, 'x.gguf');
  assert.ok(parsed !== needMore);
  header = parsed;
  headerEnd = Math.min(...header.tensors.map(({ position }) => position));
});

test('the header agrees with another reader', async () => {
  const other = await otherReader(tinyQwen2, { allowLocalFile: true });
  assert.deepEqual(
    header.tensors,
    other.tensorInfos.map(({ name, shape, dtype, offset }) => ({
      name,
      dimensions: shape.map(Number),
      type: dtype,
      position: Number(other.tensorDataOffset + offset),
    })),
  );
  for (const [key, value] of Object.entries(header.metadata)) {
    const theirs = Reflect.get(other.metadata, key);
    if (typeof value === 'number') assert.equal(Math.fround(value), Math.fround(Number(theirs)), key);
    else assert.deepEqual(value, theirs, key);
  }
});

test('a header cut at any byte is an error; a short prefix of a whole file asks for more', () => {
  for (let length = 0; length < headerEnd - 32; length++) {
    const prefix = whole.subarray(0, length);
    assert.throws(
      () => parseGgufHeader(prefix, length, 'x.gguf'),
      failsWith('gguf-damaged', 'x.gguf'),
      `${length} bytes`,
    );
    assert.equal(parseGgufHeader(prefix, whole.length, 'x.gguf'), needMore);
  }
});

test('a file cut inside its tensors is an error that names the tensor', async () => {
  await inTemporaryFolder(async (folder) => {
    const file = join(folder, 'cut.gguf');
    for (const length of [headerEnd, headerEnd + 1, whole.length - 1]) {
      await writeFile(file, whole.subarray(0, length));
      await assert.rejects(openCheckpoint(file), failsWith('gguf-damaged', file, 'tensor "'));
    }
    await writeFile(file, '');
    await assert.rejects(openCheckpoint(file), failsWith('gguf-damaged', file));
    await writeFile(file, 'GGML, not GGUF, and long enough to be read');
    await assert.rejects(openCheckpoint(file), failsWith('gguf-damaged', file, 'GGUF'));
  });
});

test('no bit flip in the header does anything but parse or give an error of ours', () => {
  let refused = 0;
  for (let byte = 0; byte < headerEnd; byte += byte < 400 ? 1 : 13) {
    for (let bit = 0; bit < 8; bit++) {
      const flipped = Buffer.from(whole);
      flipped[byte]! ^= 1 << bit;
      try {
        parseGgufHeader(flipped, flipped.length, 'x.gguf');
      } catch (error) {
        assert.ok(error instanceof DistillockError, `byte ${byte} bit ${bit}: ${error}`);
        refused++;
      }
    }
  }
  assert.ok(refused > 500, String(refused));
});

test('versions, big-endian files and impossible counts are refused', () => {
  const patched = (at: number, ...bytes: number[]): Buffer => {
    const copy = Buffer.from(whole);
    copy.set(bytes, at);
    return copy;
  };
  const parse = (bytes: Buffer) => (): unknown => parseGgufHeader(bytes, bytes.length, 'x.gguf');
  assert.throws(parse(patched(4, 1)), failsWith('gguf-version', 'version 1'));
  assert.throws(parse(patched(4, 0, 0, 0, 3)), failsWith('gguf-version', 'big-endian'));
  assert.throws(parse(patched(8, 255, 255, 255, 255)), failsWith('gguf-damaged', '4294967295 tensors'));
  assert.throws(
    parse(patched(16, 255, 255, 255, 255, 255, 255, 255, 255)),
    failsWith('gguf-damaged', 'impossible number'),
  );
});

const facts = { has: () => false, vocabSize: 10, ropeFactors: undefined };
const metadata = {
  'general.architecture': 'llama',
  'llama.embedding_length': 64,
  'llama.attention.head_count': 4,
  'llama.feed_forward_length': 96,
  'llama.block_count': 2,
  'llama.context_length': 128,
  'llama.attention.layer_norm_rms_epsilon': 1e-5,
};

test('metadata becomes a configuration', () => {
  const parse = (more: object, other: object = {}) =>
    parseGgufConfig({ ...metadata, ...more }, { ...facts, ...other }, 'x.gguf');
  assert.deepEqual(parse({ 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 4 }).ropeScaling, {
    type: 'linear',
    factor: 4,
  });
  assert.equal(parse({ 'llama.attention.sliding_window': 64 }).modelType, 'mistral');
  assert.equal(parse({ 'llama.attention.head_count_kv': [2, 2] }).numKeyValueHeads, 2);
  const scaling = {
    type: 'llama3' as const,
    factor: 32,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 8192,
  };
  const ropeFactors = Float32Array.from(llama3Factors(scaling, 500000, 64));
  const llama3 = { 'llama.rope.freq_base': 500000, 'llama.attention.key_length': 64 };
  assert.deepEqual(parse(llama3, { ropeFactors }).ropeScaling, scaling);
  ropeFactors[20]! *= 1.1;
  assert.throws(() => parse(llama3, { ropeFactors }), failsWith('rope-unsupported', 'rope_freqs.weight'));
  assert.throws(
    () => parse({ 'general.architecture': 'gemma' }),
    failsWith('architecture-unsupported', 'general.architecture', 'gemma', 'qwen2'),
  );
  assert.throws(() => parse({ 'llama.rope.scaling.type': 'yarn' }), failsWith('architecture-unsupported', 'yarn'));
  assert.throws(() => parse({ 'llama.expert_count': 8 }), failsWith('architecture-unsupported', 'expert_count'));
  assert.throws(() => parse({ 'llama.block_count': 'x' }), failsWith('config-key', 'llama.block_count'));
});
