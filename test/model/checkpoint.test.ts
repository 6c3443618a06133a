// Opening and saving whole checkpoints: the bundled teacher, a copy of it, and every way a folder can be wrong.

import assert from 'node:assert/strict';
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { toHfConfig } from '../../src/model/checkpoint/hf-config.js';
import { saveCheckpoint } from '../../src/model/checkpoint/hf-directory.js';
import { memoryTensors } from '../../src/model/checkpoint/memory-tensors.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { adjacentToHalfSplit } from '../../src/model/checkpoint/rope-rows.js';
import { failsWith, inTemporaryFolder, readJson, storiesFolder, tinyQwen2 } from './fixtures.js';

test('the bundled teacher opens and has every tensor', async () => {
  const { config, tensors, tokenizer } = await openCheckpoint(storiesFolder);
  const { config: expected } = await readJson<{ config: Record<string, number> }>(
    'test/fixtures/stories260k/expected.json',
  );
  assert.deepEqual(
    [
      config.hiddenSize,
      config.intermediateSize,
      config.numHiddenLayers,
      config.numAttentionHeads,
      config.numKeyValueHeads,
      config.vocabSize,
    ],
    ['dim', 'hidden_dim', 'n_layers', 'n_heads', 'n_kv_heads', 'vocab_size'].map((key) => expected[key]),
  );
  assert.equal(config.tieWordEmbeddings, true);
  let parameters = 0;
  for (const { name } of tensors.list()) parameters += (await tensors.read(name)).length;
  assert.equal(parameters, 260032);
  assert.deepEqual(Object.keys(tokenizer).sort(), [
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  await tensors.close();
});

test('what is saved opens as the same model, from a folder and from GGUF', async () => {
  await inTemporaryFolder(async (folder) => {
    for (const spec of [storiesFolder, tinyQwen2]) {
      const original = await openCheckpoint(spec);
      const copy = join(folder, 'copy');
      await saveCheckpoint(copy, original.config, original.tensors, original.tokenizer);
      const reopened = await openCheckpoint(copy);
      assert.deepEqual(reopened.config, original.config);
      assert.deepEqual(
        Buffer.from(reopened.tokenizer['tokenizer.json']),
        Buffer.from(original.tokenizer['tokenizer.json']),
      );
      for (const { name } of expectedTensors(original.config)) {
        assert.deepEqual(await reopened.tensors.read(name), await original.tensors.read(name), name);
      }
      await original.tensors.close();
      await reopened.tensors.close();
      await rm(copy, { recursive: true });
    }
  });
});

test('sharded and half-precision copies', async () => {
  await inTemporaryFolder(async (folder) => {
    const original = await openCheckpoint(storiesFolder);
    await saveCheckpoint(folder, original.config, original.tensors, original.tokenizer, {
      dtype: 'BF16',
      maxShardBytes: 200_000,
    });
    assert.ok((await readdir(folder)).filter((name) => name.endsWith('.safetensors')).length > 2);
    const copy = await openCheckpoint(folder);
    assert.equal(copy.tensors.info('model.norm.weight').dtype, 'BF16');
    const [a, b] = [await copy.tensors.read('model.norm.weight'), await original.tensors.read('model.norm.weight')];
    assert.ok(a.every((value, i) => Math.abs(value - b[i]!) <= Math.abs(b[i]!) / 256));
    assert.equal(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')).torch_dtype, 'bfloat16');
    await original.tensors.close();
    await copy.tensors.close();
  });
});

test('a folder that does not fit together is refused by file, tensor and shape', async () => {
  await inTemporaryFolder(async (parent) => {
    const folder = join(parent, 'model');
    await cp(storiesFolder, folder, { recursive: true });
    const configFile = join(folder, 'config.json');
    const original = JSON.parse(await readFile(configFile, 'utf8'));
    const withConfig = async (change: object): Promise<void> =>
      writeFile(configFile, JSON.stringify({ ...original, ...change }));

    await withConfig({ vocab_size: 513 });
    await assert.rejects(
      openCheckpoint(folder),
      failsWith('tensor-shape', folder, 'model.embed_tokens.weight', '[512, 64]', '[513, 64]'),
    );
    await withConfig({ tie_word_embeddings: false });
    await assert.rejects(openCheckpoint(folder), failsWith('tensor-missing', folder, 'lm_head.weight', '[512, 64]'));
    await withConfig({ num_hidden_layers: 6 });
    await assert.rejects(openCheckpoint(folder), failsWith('tensor-missing', 'model.layers.5.input_layernorm.weight'));
    await writeFile(configFile, '{"model_type"');
    await assert.rejects(openCheckpoint(folder), failsWith('json-invalid', configFile));
    await rm(configFile);
    await assert.rejects(openCheckpoint(folder), failsWith('file-missing', configFile));
    await withConfig({});
    await rm(join(folder, 'model.safetensors'));
    await assert.rejects(openCheckpoint(folder), failsWith('file-missing', folder, 'model.safetensors'));
    await writeFile(join(folder, 'pytorch_model.bin'), '');
    await assert.rejects(openCheckpoint(folder), failsWith('format-unsupported', 'pytorch_model.bin'));
    await assert.rejects(openCheckpoint(configFile), failsWith('checkpoint-unknown', configFile));
    await assert.rejects(openCheckpoint(join(parent, 'none')), failsWith('file-missing', 'none'));
  });
});

test('ends of turn in generation_config.json count', async () => {
  await inTemporaryFolder(async (folder) => {
    await cp(storiesFolder, folder, { recursive: true });
    await writeFile(join(folder, 'generation_config.json'), '{"eos_token_id": [2, 7]}');
    const checkpoint = await openCheckpoint(folder);
    assert.deepEqual(checkpoint.config.eosTokenIds, [1, 2, 7]);
    await checkpoint.tensors.close();
  });
});

test('tensors in memory are checked against their shapes', async () => {
  const tensors = memoryTensors([{ name: 'a', shape: [2, 2], data: new Float32Array(4) }], 'student');
  assert.deepEqual(tensors.list(), [{ name: 'a', shape: [2, 2], dtype: 'F32' }]);
  await assert.rejects(tensors.read('b'), failsWith('tensor-missing', 'student', '"b"'));
  assert.throws(
    () => memoryTensors([{ name: 'a', shape: [3], data: new Float32Array(4) }]),
    failsWith('tensor-shape', '"a"'),
  );
});

test('rows of adjacent pairs move to halves, head by head', () => {
  const rows = Float32Array.of(0, 1, 2, 3, 10, 11, 12, 13);
  assert.deepEqual(adjacentToHalfSplit(rows, 4, 1), Float32Array.of(0, 2, 1, 3, 10, 12, 11, 13));
  assert.deepEqual(adjacentToHalfSplit(rows, 4, 2), Float32Array.of(0, 1, 10, 11, 2, 3, 12, 13));
});

test('the written config.json says what the family says', async () => {
  const { config, tensors } = await openCheckpoint(storiesFolder);
  const json = toHfConfig(config);
  assert.deepEqual(json.architectures, ['LlamaForCausalLM']);
  assert.deepEqual(json.eos_token_id, [1, 2]);
  await tensors.close();
});
