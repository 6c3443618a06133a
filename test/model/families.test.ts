// Tiny random checkpoints of every family against transformers (tools/reference/families.py), through both lowerings of a decoder.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Accelerator } from '../../src/edge/teacher/accelerator.js';
import { openGate } from '../../src/edge/teacher/gate.js';
import { forward } from '../../src/edge/teacher/pass.js';
import { segmentsIn } from '../../src/edge/teacher/unlocked-model.js';
import { openStudent } from '../../src/edge/train/student.js';
import { Graph } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { matmul } from '../../src/graph/ops/matmul.js';
import { type Feeds, Session } from '../../src/graph/runtime.js';
import { SCHEMES } from '../../src/model/bundle-manifest.js';
import { checkTensors, expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { readConfig } from '../../src/model/checkpoint/hf-directory.js';
import { type MemoryTensor, memoryTensors } from '../../src/model/checkpoint/memory-tensors.js';
import { openSafetensors } from '../../src/model/checkpoint/safetensors.js';
import { decoderBody } from '../../src/model/decoder.js';
import { families, familyOf } from '../../src/model/families/index.js';
import { readSegmentWeight, writeSegments } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import type { TensorSource } from '../../src/model/tensors.js';
import { TrainingLayers } from '../../src/model/training-layers.js';
import { createScheme } from '../../src/owner/scheme/lock-scheme.js';
import { lockWeight } from '../../src/owner/scheme/lock-weight.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { extend } from '../teacher/steps.js';
import { failsWith, readJson } from './fixtures.js';

interface Reference {
  readonly ids: number[][];
  readonly logits: Readonly<Record<string, number[][]>>;
}

const rows = 2;
const columns = 24;

function logSoftmax(logits: readonly number[]): number[] {
  const top = Math.max(...logits);
  const normaliser = top + Math.log(logits.reduce((sum, z) => sum + Math.exp(z - top), 0));
  return logits.map((z) => z - normaliser);
}

async function open(family: string) {
  const folder = join('test', 'fixtures', 'families', family);
  const reference = await readJson<Reference>(join(folder, 'reference.json'));
  const config = await readConfig(join(folder, 'config.json'));
  const stored = await openSafetensors(join(folder, 'model.safetensors'));
  const tensors = familyOf(config.modelType, folder).importTensors?.(stored, config) ?? stored;
  checkTensors(tensors, config, folder);
  return { reference, config, tensors };
}

function assertLogprobs(actual: (token: number) => number, logits: readonly number[], what: string): void {
  logSoftmax(logits).forEach((expected, token) => {
    const found = actual(token);
    assert.ok(Math.abs(found - expected) <= 1e-4, `${what}, token ${token}: ${found}, transformers ${expected}`);
  });
}

for (const { modelType: family, student } of families) {
  test(`${family}: forward-only graph, in one pass and with a cache`, async (t) => {
    const { reference, config, tensors } = await open(family);
    const folder = await temporaryFolder(t);
    await writeSegments(folder, buildSegments(config), (weight) => readSegmentWeight(tensors, weight));
    await tensors.close();
    const accelerator = await Accelerator.open(segmentsIn(folder, 2), config);
    const { hiddenSize, vocabSize } = config;
    const ids = Int32Array.from(reference.ids.flat());
    const lengths = [columns, columns];
    const hidden = await accelerator.run(0, ids, { batch: rows, tokens: columns, lengths });
    const check = async (row: Float32Array, expected: readonly number[], what: string): Promise<void> => {
      const top = await accelerator.topK(row, 1, vocabSize, 1);
      assertLogprobs((token) => top.logprobs[top.ids.indexOf(token)]!, expected, what);
    };
    for (const [position, expected] of Object.entries(reference.logits)) {
      for (let row = 0; row < rows; row += 1) {
        const at = (row * columns + Number(position)) * hiddenSize;
        await check(hidden.subarray(at, at + hiddenSize), expected[row]!, `row ${row}, position ${position}`);
      }
    }
    if (config.positions === 'learned') {
      const long = forward(accelerator, openGate, new Int32Array(65), { batch: 1, tokens: 65, lengths: [65] });
      await assert.rejects(long, failsWith('positions-exceeded', '65 tokens', '64 positions'));
    }
    const first = await extend(accelerator, ids.slice(0, 9), null);
    let { cache } = first;
    let last = first.hidden;
    for (let position = 9; position < columns; position += 1) {
      ({ hidden: last, cache } = await extend(accelerator, ids.slice(position, position + 1), cache));
      const expected = reference.logits[String(position)];
      if (expected) await check(last, expected[0]!, `cached, position ${position}`);
    }
    await accelerator.close();
  });

  for (const scheme of SCHEMES) {
    test(`${family}: locked by ${scheme}, in locked ids, biases included`, async (t) => {
      const { reference, config, tensors } = await open(family);
      const folder = await temporaryFolder(t);
      const seed = new Uint8Array(32).fill(9);
      const lock = createScheme(scheme, seed, config);
      const segments = buildSegments(config, { denseOutputGains: lock.foldsGains });
      await writeSegments(folder, segments, (weight) => lockWeight(lock, tensors, weight, 0));
      await tensors.close();
      const vocabulary = vocabularyPermutation(seed, scheme, config.vocabSize);
      const accelerator = await Accelerator.open(segmentsIn(folder, 2), config);
      const ids = Int32Array.from(reference.ids[0]!, (id) => vocabulary[id]!);
      const hidden = await accelerator.run(0, ids, { batch: 1, tokens: columns, lengths: [columns] });
      const top = await accelerator.topK(hidden.subarray((columns - 1) * config.hiddenSize), 1, config.vocabSize, 1);
      const logprobOf = (token: number): number => top.logprobs[top.ids.indexOf(vocabulary[token]!)]!;
      assertLogprobs(logprobOf, reference.logits[String(columns - 1)]![0]!, 'locked');
      await accelerator.close();
    });
  }

  test(`${family}: ${student ? 'training graph' : 'no student'}`, async () => {
    const { reference, config, tensors } = await open(family);
    const graph = new Graph();
    if (!student) {
      await tensors.close();
      const build = (): unknown => new TrainingLayers(graph, config, { batch: rows, tokens: columns }, () => false);
      assert.throws(build, failsWith('student-unsupported', family, 'qwen3'));
      const source = join('test', 'fixtures', 'families', family, 'config.json');
      await assert.rejects(openStudent(source, 0), failsWith('student-unsupported', family));
      return;
    }
    const layers = new TrainingLayers(graph, config, { batch: rows, tokens: columns }, () => false);
    const hidden = decoderBody(layers, config);
    graph.output('logits', matmul(graph, hidden, layers.headWeight(), { transB: true }));
    const session = await Session.open(encodeModel(graph));
    const shape = [rows, columns];
    const feeds: Record<string, Feeds[string]> = {
      input_ids: { data: Int32Array.from(reference.ids.flat()), shape },
      position_ids: { data: BigInt64Array.from({ length: rows * columns }, (_, i) => BigInt(i % columns)), shape },
      segment_ids: { data: new Int32Array(rows * columns).fill(1), shape },
    };
    for (const [name, value] of layers.parameters)
      feeds[name] = { data: await tensors.read(name), shape: value.shape as number[] };
    const logits = (await session.run(feeds)).logits!.data as Float32Array;
    for (const [position, expected] of Object.entries(reference.logits)) {
      for (let row = 0; row < rows; row += 1) {
        const at = (row * columns + Number(position)) * config.vocabSize;
        const own = logSoftmax([...logits.subarray(at, at + config.vocabSize)]);
        assertLogprobs((token) => own[token]!, expected[row]!, `row ${row}, position ${position}`);
      }
    }
    await session.close();
    await tensors.close();
  });
}

/** The stored tensors of a fixture under other names. */
async function renamedTensors(family: string, rename: (name: string) => string): Promise<TensorSource> {
  const stored = await openSafetensors(join('test', 'fixtures', 'families', family, 'model.safetensors'));
  const tensors: MemoryTensor[] = [];
  for (const { name, shape } of stored.list())
    tensors.push({ name: rename(name), shape, data: await stored.read(name) });
  await stored.close();
  return memoryTensors(tensors, family);
}

for (const [family, what, rename] of [
  ['gpt2', 'names of the original checkpoint', (name: string) => name.replace(/^transformer\./, '')],
  ['gemma3_text', 'the text model one level down', (name: string) => `language_model.${name}`],
  [
    'gemma3_text',
    'the text model one level down, newer names',
    (name: string) => name.replace(/^model\./, 'model.language_model.'),
  ],
] as const) {
  test(`${family}: ${what}`, async () => {
    const { config, tensors } = await open(family);
    const importTensors = familyOf(family, family).importTensors!;
    const other = importTensors(await renamedTensors(family, rename), config);
    checkTensors(other, config, family);
    for (const { name } of expectedTensors(config))
      assert.deepEqual(await other.read(name), await tensors.read(name), name);
    await tensors.close();
  });
}

for (const family of ['gemma3_text', 'gpt2', 'phi3'] as const) {
  test(`${family}: rows of an imported tensor are those of the whole, and the checkpoint's fingerprint is kept`, async () => {
    const { config, tensors } = await open(family);
    for (const { name, shape } of expectedTensors(config)) {
      const whole = await tensors.read(name);
      const [rows, width] = [shape[0]!, whole.length / shape[0]!];
      for (const [start, count] of [
        [0, 1],
        [rows - 3, 3],
        [0, rows],
      ] as const)
        assert.deepEqual(
          await tensors.readRows!(name, start, count),
          whole.subarray(start * width, (start + count) * width),
          name,
        );
    }
    const stored = await openSafetensors(join('test', 'fixtures', 'families', family, 'model.safetensors'));
    assert.equal(await tensors.fingerprint!(), await stored.fingerprint!());
    await stored.close();
    await tensors.close();
  });
}

test('gpt2: what writes the residual is centred, so that its mean stays zero', async () => {
  const { config, tensors } = await open('gpt2');
  const width = config.hiddenSize;
  for (const name of [
    'model.embed_tokens.weight',
    'model.embed_positions.weight',
    'model.layers.1.mlp.down_proj.bias',
  ]) {
    const values = await tensors.read(name);
    for (let row = 0; row < values.length; row += width)
      assert.ok(Math.abs(values.subarray(row, row + width).reduce((sum, x) => sum + x, 0)) < 1e-5, name);
  }
  await tensors.close();
});

test('a fused tensor of another height, and one that is missing, are refused by name', async () => {
  const { config, tensors } = await open('phi3');
  await tensors.close();
  const importTensors = familyOf('phi3', 'phi3').importTensors!;
  const wrong = importTensors(await renamedTensors('phi3', (name) => name), { ...config, intermediateSize: 47 });
  const gate = 'model.layers.0.mlp.gate_proj.weight';
  const check = (source: TensorSource): void => checkTensors(source, { ...config, intermediateSize: 47 }, 'm');
  assert.throws(() => check(wrong), failsWith('tensor-shape', 'm', gate, '[96, 32]', '[47, 32]'));
  const lacking = await renamedTensors('phi3', (name) => name.replace('0.self_attn.qkv_proj', '0.self_attn.other'));
  assert.throws(
    () => checkTensors(importTensors(lacking, config), config, 'm'),
    failsWith('tensor-missing', 'm', 'model.layers.0.self_attn.q_proj.weight'),
  );
});
