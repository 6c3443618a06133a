// Quantised bundles: the manifest says so, they are smaller, the locked teacher stays near the unlocked one and generates with its cache.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openBundle } from '../../src/edge/bundle.js';
import { Accelerator, type KeyValueCache } from '../../src/edge/teacher/accelerator.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { shieldedPlan, uniformPlan } from '../../src/model/spans.js';
import { openTokenizer } from '../../src/model/tokenizer.js';
import { lockModel } from '../../src/owner/lock-checkpoint.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import type { Quantization } from '../../src/trusted/wire/manifest.js';
import { extend } from '../teacher/steps.js';
import { storiesFolder } from '../teacher/stories-teacher.js';
import { temporaryFolder, tinyCheckpoint } from './tiny-model.js';

const text =
  'Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her dog.';

interface Stories {
  readonly accelerator: Accelerator;
  readonly ids: Int32Array;
  readonly bytes: number;
}

async function lockStories(t: TestContext, folder: string, quantize: Quantization): Promise<Stories> {
  const checkpoint = await openCheckpoint(storiesFolder);
  const outDir = join(folder, `${quantize}.lock`);
  const seed = new Uint8Array(32).fill(9);
  const { keys } = await lockModel({ checkpoint, outDir, seed, quantize });
  const bundle = await openBundle(outDir, { ownerKey: keys.signingKey });
  assert.equal(bundle.manifest.quantize, quantize);
  const accelerator = await Accelerator.open(bundle.segments, checkpoint.config);
  t.after(() => accelerator.close());
  const plain = (await openTokenizer(checkpoint.tokenizer)).encode(text);
  const locked = vocabularyPermutation(seed, 'rotation', checkpoint.config.vocabSize);
  await checkpoint.tensors.close();
  const data = bundle.manifest.files.filter(({ path }) => path.endsWith('.data'));
  const bytes = data.reduce((sum, { size }) => sum + size, 0);
  return { accelerator, ids: plain.map((id) => locked[id]!), bytes };
}

async function allLogprobs({ accelerator, ids }: Stories): Promise<Float32Array> {
  const { vocabSize } = accelerator.config;
  const hidden = await accelerator.run(0, ids, { batch: 1, tokens: ids.length, lengths: [ids.length] });
  const top = await accelerator.topK(hidden, ids.length, vocabSize, 1);
  const out = new Float32Array(top.logprobs.length);
  top.ids.forEach((id, i) => {
    out[i - (i % vocabSize) + id] = top.logprobs[i]!;
  });
  return out;
}

test('stories260K as int8 and int4: smaller, near float32, int8 nearer than int4', async (t) => {
  const folder = await temporaryFolder(t);
  const exact = await lockStories(t, folder, 'none');
  const expected = await allLogprobs(exact);
  const kl: number[] = [];
  for (const [quantize, share] of [
    ['int8', 0.4],
    ['int4', 0.3],
  ] as const) {
    const stories = await lockStories(t, folder, quantize);
    // The embedding table stays float32: 512 × 64 × 4 bytes.
    const table = 512 * 64 * 4;
    assert.ok(stories.bytes - table < share * (exact.bytes - table), `${quantize}: ${stories.bytes} bytes`);
    const found = await allLogprobs(stories);
    const sum = expected.reduce((total, p, i) => total + Math.exp(p) * (p - found[i]!), 0);
    kl.push(sum / stories.ids.length);
  }
  const [int8, int4] = kl as [number, number];
  assert.ok(int8 > 1e-7 && int8 < 1e-2, `int8: KL ${int8}`);
  assert.ok(int4 > int8 && int4 < 0.3, `int4: KL ${int4}`);
});

test('token by token with the cache gives what one pass gives, in both formats', async (t) => {
  const folder = await temporaryFolder(t);
  for (const quantize of ['int8', 'int4'] as const) {
    const { accelerator, ids } = await lockStories(t, folder, quantize);
    const width = accelerator.config.hiddenSize;
    const hidden = await accelerator.run(0, ids, { batch: 1, tokens: ids.length, lengths: [ids.length] });
    let cache: KeyValueCache | null = null;
    for (let i = 0; i < ids.length; i += 1) {
      const step: Awaited<ReturnType<typeof extend>> = await extend(accelerator, ids.subarray(i, i + 1), cache);
      cache = step.cache;
      const row = hidden.subarray(i * width, (i + 1) * width);
      let [error, size] = [0, 0];
      step.hidden.forEach((x, j) => {
        error += (x - row[j]!) ** 2;
        size += row[j]! ** 2;
      });
      // One row and many rows go through different kernels, which round activations to 8 bits.
      assert.ok(Math.sqrt(error / size) < 0.06, `${quantize}, token ${i}: ${Math.sqrt(error / size)}`);
    }
  }
});

test('a plan with nothing to quantise on the accelerator is refused before anything is written', async (t) => {
  const folder = await temporaryFolder(t);
  const checkpoint = tinyCheckpoint();
  const blocks = checkpoint.config.numHiddenLayers;
  for (const plan of [uniformPlan(blocks, 'enclave'), shieldedPlan(blocks, ['0', '1', 'head'])]) {
    const locking = lockModel({ checkpoint, outDir: join(folder, 'm.lock'), plan, quantize: 'int8' });
    await assert.rejects(locking, { code: 'quantize-enclave' });
  }
  assert.deepEqual(await readdir(folder), []);
});

test('a machine with little memory runs the mapped integers as they are', async (t) => {
  const folder = await temporaryFolder(t);
  for (const quantize of ['int8', 'int4'] as const) {
    const checkpoint = await openCheckpoint(storiesFolder);
    const outDir = join(folder, `${quantize}.lock`);
    const { keys } = await lockModel({ checkpoint, outDir, quantize });
    const { segments } = await openBundle(outDir, { ownerKey: keys.signingKey });
    await checkpoint.tensors.close();
    const ids = Int32Array.from({ length: 12 }, (_, i) => 7 * i + 3);
    const outputs: Float32Array[] = [];
    for (const prepack of [true, false]) {
      const accelerator = await Accelerator.open(segments, checkpoint.config, { prepack });
      outputs.push(await accelerator.run(0, ids, { batch: 1, tokens: ids.length, lengths: [ids.length] }));
      await accelerator.close();
    }
    const [packed, mapped] = outputs as [Float32Array, Float32Array];
    const norm = (of: (i: number) => number): number => Math.sqrt(packed.reduce((sum, _, i) => sum + of(i) ** 2, 0));
    const error = norm((i) => packed[i]! - mapped[i]!) / norm((i) => packed[i]!);
    assert.ok(error < 0.06, `${quantize}: relative error ${error}`);
  }
});

test('sizes that are no multiple of a block lock and run', async (t) => {
  const folder = await temporaryFolder(t);
  for (const quantize of ['int8', 'int4'] as const) {
    const checkpoint = tinyCheckpoint(8);
    const outDir = join(folder, `${quantize}.lock`);
    const { keys } = await lockModel({ checkpoint, outDir, quantize });
    const { segments } = await openBundle(outDir, { ownerKey: keys.signingKey });
    const accelerator = await Accelerator.open(segments, checkpoint.config);
    const ids = Int32Array.of(3, 1, 4, 1, 5);
    const hidden = await accelerator.run(0, ids, { batch: 1, tokens: ids.length, lengths: [ids.length] });
    const { logprobs } = await accelerator.topK(hidden, ids.length, 97, 1);
    await accelerator.close();
    for (let row = 0; row < ids.length; row += 1) {
      const sum = logprobs.subarray(row * 97, (row + 1) * 97).reduce((total, x) => total + Math.exp(x), 0);
      assert.ok(Math.abs(sum - 1) < 1e-4, `row ${row}: probabilities sum to ${sum}`);
    }
  }
});
