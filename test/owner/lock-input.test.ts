// Checkpoints with something wrong or unusual in them, through `distillock lock`: formats that cannot be read, numbers that are none,
// vocabularies padded beyond the tokenizer, tied and untied heads, shards of different formats.
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { saveCheckpoint } from '../../src/model/checkpoint/hf-directory.js';
import { memoryTensors } from '../../src/model/checkpoint/memory-tensors.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { readTokenizerFiles } from '../../src/model/checkpoint/tokenizer-files.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { failure, json, STORIES } from '../cli/command-line.js';
import { temporaryFolder, tinyConfig } from './tiny-model.js';

/** The bundled tokenizer has 512 tokens. */
const config: DecoderConfig = { ...tinyConfig, vocabSize: 521, hiddenSize: 32, headDim: 8 };

/** Writes `<folder>/model` in shards of a few tensors each; `change` may spoil a tensor. */
async function writeModel(
  folder: string,
  shape: DecoderConfig,
  change: (name: string, data: Float32Array) => void = () => undefined,
): Promise<string> {
  let state = 7;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const tensors = expectedTensors(shape).map(({ name, shape: dims }) => {
    const data = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, random);
    change(name, data);
    return { name, shape: dims, data };
  });
  const model = join(folder, 'model');
  const options = { dtype: 'BF16', maxShardBytes: 20_000 } as const;
  await saveCheckpoint(model, shape, memoryTensors(tensors), await readTokenizerFiles(STORIES), options);
  return model;
}

/** The shard that holds `tensor`, with the dtype of all its tensors replaced by one of the same width. */
async function relabel(model: string, tensor: string, dtype: string): Promise<string> {
  const { weight_map: map } = JSON.parse(await readFile(join(model, 'model.safetensors.index.json'), 'utf8'));
  const file = join(model, map[tensor]);
  const bytes = await readFile(file);
  const length = Number(bytes.readBigUInt64LE());
  const header = bytes
    .subarray(8, 8 + length)
    .toString()
    .trimEnd()
    .replaceAll('"BF16"', `"${dtype}"`);
  bytes.write(header.padEnd(length), 8);
  await writeFile(file, bytes);
  return file;
}

test('padded vocabularies, tied and untied, sharded: locked, and the same as before', async (t) => {
  for (const tied of [true, false]) {
    const folder = await temporaryFolder(t);
    const model = await writeModel(folder, { ...config, tieWordEmbeddings: tied });
    assert.ok((await readdir(model)).filter((name) => name.endsWith('.safetensors')).length >= 3);
    const [bundle, keys] = [join(folder, 'm.lock'), join(folder, 'm.keys')];
    await json('lock', '--model', model, '--out', bundle, '--keys', keys, '--placement', 'accelerator');
    const found = await json('verify-lock', bundle, '--model', model, '--keys', keys, '--max_tokens', '100');
    assert.ok(found.equal && found.maxDelta < 1e-3);
  }
});

test('one shard in another float format is read as what it is', async (t) => {
  const folder = await temporaryFolder(t);
  const tensor = 'model.layers.1.mlp.up_proj.weight';
  const model = await writeModel(folder, config);
  const before = await openCheckpoint(model);
  const bfloat = await before.tensors.read(tensor);
  await before.tensors.close();
  await relabel(model, tensor, 'F16');
  const after = await openCheckpoint(model);
  assert.equal(after.tensors.info(tensor).dtype, 'F16');
  assert.notDeepEqual(await after.tensors.read(tensor), bfloat);
  await after.tensors.close();
});

test('a shard with a dtype that is no float is named, and nothing is left', async (t) => {
  const folder = await temporaryFolder(t);
  const model = await writeModel(folder, config);
  const file = await relabel(model, 'model.layers.1.mlp.up_proj.weight', 'I16');
  const out = ['--out', join(folder, 'm.lock'), '--keys', join(folder, 'm.keys')];
  const refused = await failure('lock', '--model', model, ...out);
  assert.equal(refused.code, 'dtype-unsupported');
  assert.ok(refused.message.includes(file), refused.message);
  assert.match(refused.message, /I16/);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.includes('lock')),
    [],
  );
});

test('NaN in a shard is named by tensor, and nothing is left', async (t) => {
  const folder = await temporaryFolder(t);
  const spoiled = 'model.layers.1.self_attn.o_proj.weight';
  const model = await writeModel(folder, config, (name, data) => {
    if (name === spoiled) data[5] = Number.NaN;
  });
  const out = join(folder, 'm.lock');
  for (const placement of ['accelerator', 'enclave']) {
    const keys = join(folder, `${placement}.keys`);
    const refused = await failure('lock', '--model', model, '--out', out, '--keys', keys, '--placement', placement);
    assert.equal(refused.code, 'weight-not-finite');
    assert.ok(refused.message.includes(spoiled), refused.message);
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.includes(basename(out))),
      [],
    );
  }
});
