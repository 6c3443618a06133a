// Locks: each transform alone, and all together, leave a model's log-probabilities as they are, over random shapes, families and seeds;
// and each is really there: the weights it touches change.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Accelerator } from '../../src/edge/teacher/accelerator.js';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { memoryTensors } from '../../src/model/checkpoint/memory-tensors.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { readSegmentWeight, writeSegments } from '../../src/model/segment-weights.js';
import { buildSegments, type Space } from '../../src/model/segments.js';
import type { TensorSource } from '../../src/model/tensors.js';
import { createScheme, type LockScheme } from '../../src/owner/scheme/lock-scheme.js';
import { lockWeight } from '../../src/owner/scheme/lock-weight.js';
import { haarOrthogonal, wellConditioned } from '../../src/owner/scheme/orthogonal.js';
import { LabelledStream } from '../../src/trusted/lock/stream.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import { temporaryFolder, tinyConfig } from './tiny-model.js';

const tokens = 9;

const shapes = fc.record({
  kvHeads: fc.integer({ min: 1, max: 3 }),
  group: fc.integer({ min: 1, max: 3 }),
  headDim: fc.constantFrom(8, 16, 24),
  hiddenSize: fc.constantFrom(12, 20, 70),
  intermediateSize: fc.constantFrom(10, 24),
  vocabSize: fc.integer({ min: 11, max: 40 }),
  biases: fc.boolean(),
  tied: fc.boolean(),
  seed: fc.uint8Array({ minLength: 32, maxLength: 32 }),
});
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

function configOf(shape: Shape): DecoderConfig {
  const { kvHeads, group, headDim, hiddenSize, intermediateSize, vocabSize, biases, tied } = shape;
  return {
    ...tinyConfig,
    vocabSize,
    hiddenSize,
    intermediateSize,
    headDim,
    numAttentionHeads: kvHeads * group,
    numKeyValueHeads: kvHeads,
    qkvBias: biases,
    outputBias: biases,
    mlpBias: biases,
    tieWordEmbeddings: tied,
  };
}

function randomTensors(config: DecoderConfig, seed: Uint8Array): TensorSource {
  const stream = new LabelledStream(seed, 'test weights');
  const random = (scale: number, offset: number): number => (stream.u32() / 2 ** 32 - 0.5) * scale + offset;
  const tensors = expectedTensors(config).map(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const gain = name.includes('norm');
    return { name, shape, data: Float32Array.from({ length: size }, () => random(1, gain ? 1 : 0)) };
  });
  return memoryTensors(tensors, 'random');
}

/** Log-probabilities [tokens, vocabulary], columns in the order of the head's ids. */
async function logprobs(
  folder: string,
  config: DecoderConfig,
  ids: Int32Array,
  weightOf: Parameters<typeof writeSegments>[2],
): Promise<Float32Array> {
  await mkdir(folder, { recursive: true });
  await writeSegments(folder, buildSegments(config), weightOf);
  const accelerator = await Accelerator.open([join(folder, '00.onnx'), join(folder, '01.onnx')], config);
  const hidden = await accelerator.hidden({ ids, batch: 1, tokens, lengths: [tokens] });
  const top = await accelerator.topK(hidden, tokens, config.vocabSize, 1);
  const out = new Float32Array(tokens * config.vocabSize);
  top.ids.forEach((id, i) => {
    out[Math.floor(i / config.vocabSize) * config.vocabSize + id] = top.logprobs[i]!;
  });
  await accelerator.close();
  return out;
}

/** The scheme with every space but these left alone. */
function only(lock: LockScheme, spaces: readonly Space[]): LockScheme {
  return {
    ...lock,
    foldsGains: lock.foldsGains && spaces.includes('residual'),
    basis: async (space, at) => (spaces.includes(space) ? lock.basis(space, at) : null),
  };
}

const transforms: readonly (readonly [name: string, spaces: readonly Space[], runs: number])[] = [
  ['residual basis and folded gains', ['residual'], 12],
  ['vocabulary', ['vocabulary'], 8],
  ['attention: query/key pairs, value mixing, heads', ['query', 'key', 'value', 'heads'], 12],
  ['feed-forward: neurons and signed scales', ['gate', 'up', 'neurons'], 8],
  ['everything', ['residual', 'vocabulary', 'query', 'key', 'value', 'heads', 'gate', 'up', 'neurons'], 20],
];

for (const [name, spaces, runs] of transforms) {
  test(`rotation, ${name}: log-probabilities stay, weights do not`, async (t) => {
    const folder = await temporaryFolder(t);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(shapes, async (shape) => {
        const config = configOf(shape);
        const tensors = randomTensors(config, shape.seed);
        // Every other run as for weights that are quantised afterwards.
        const lock = only(createScheme('rotation', shape.seed, config, { quantised: run % 2 === 1 }), spaces);
        const plainIds = Int32Array.from({ length: tokens }, (_, i) => (7 * i + 3) % config.vocabSize);
        const own = join(folder, String(run++));
        const plain = await logprobs(join(own, 'plain'), config, plainIds, (weight) =>
          readSegmentWeight(tensors, weight),
        );
        const changed = new Set<Space>();
        const vocabulary = spaces.includes('vocabulary')
          ? vocabularyPermutation(shape.seed, 'rotation', config.vocabSize)
          : Int32Array.from({ length: config.vocabSize }, (_, i) => i);
        const lockedIds = plainIds.map((id) => vocabulary[id]!);
        const locked = await logprobs(join(own, 'locked'), config, lockedIds, async (weight) => {
          const result = await lockWeight(lock, tensors, weight, 0);
          const before = await readSegmentWeight(tensors, weight);
          if (result.some((x, i) => x !== before[i])) for (const part of weight.parts) changed.add(part.columns);
          return result;
        });
        for (let row = 0; row < tokens; row++) {
          for (let id = 0; id < config.vocabSize; id++) {
            const [a, b] = [plain[row * config.vocabSize + id]!, locked[row * config.vocabSize + vocabulary[id]!]!];
            assert.ok(Math.abs(a - b) <= 1e-3, `row ${row}, token ${id}: ${a} and ${b}`);
          }
        }
        assert.ok(changed.size > 0, 'nothing was locked');
      }),
      { numRuns: runs, seed: 20261124 },
    );
  });
}

test('a change of basis that does not cancel is noticed: keys alone, values alone', async (t) => {
  const folder = await temporaryFolder(t);
  const config = { ...tinyConfig, numHiddenLayers: 1, headDim: 8 };
  const seed = new Uint8Array(32).fill(5);
  const tensors = randomTensors(config, seed);
  const ids = Int32Array.from({ length: tokens }, (_, i) => i);
  const plain = await logprobs(join(folder, 'plain'), config, ids, (weight) => readSegmentWeight(tensors, weight));
  for (const space of ['key', 'value', 'up'] as const) {
    const lock = only(createScheme('rotation', seed, config), [space]);
    const locked = await logprobs(join(folder, space), config, ids, (weight) => lockWeight(lock, tensors, weight, 0));
    assert.ok(
      locked.some((x, i) => Math.abs(x - plain[i]!) > 1e-2),
      space,
    );
  }
});

test('Haar matrices are orthogonal at every size and repeat from their stream', async () => {
  for (const n of [1, 2, 63, 64, 65, 200]) {
    const q = await haarOrthogonal(new LabelledStream(new Uint8Array(32).fill(n), 'q'), n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        let dot = 0;
        for (let c = 0; c < n; c++) dot += q[i * n + c]! * q[j * n + c]!;
        assert.ok(Math.abs(dot - (i === j ? 1 : 0)) < 2e-6, `${n}: rows ${i} and ${j} give ${dot}`);
      }
    }
    assert.deepEqual(await haarOrthogonal(new LabelledStream(new Uint8Array(32).fill(n), 'q'), n), q);
  }
});

test('Haar: entries of 4×4 matrices have the second and fourth moments of the uniform measure on O(4)', async () => {
  const stream = new LabelledStream(new Uint8Array(32).fill(1), 'moments');
  const draws = 1500;
  let [first, second, fourth] = [0, 0, 0];
  for (let draw = 0; draw < draws; draw++) {
    for (const x of await haarOrthogonal(stream, 4)) {
      first += x;
      second += x ** 2;
      fourth += x ** 4;
    }
  }
  const size = 16 * draws;
  // E x² = 1/n, E x⁴ = 3/(n(n + 2)); a missing sign correction shows in the first moment of the diagonal.
  assert.ok(Math.abs(first / size) < 0.01);
  assert.ok(Math.abs(second / size - 1 / 4) < 1e-3);
  assert.ok(Math.abs(fourth / size - 3 / 24) < 3e-3);
});

test('mixing matrices come with their inverse and a bounded condition', async () => {
  const n = 24;
  const { transposed, inverse } = await wellConditioned(new LabelledStream(new Uint8Array(32), 'a'), n, 1.4);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let entry = 0;
      for (let c = 0; c < n; c++) entry += transposed[c * n + i]! * inverse[c * n + j]!;
      assert.ok(Math.abs(entry - (i === j ? 1 : 0)) < 1e-5);
    }
  }
  const norm = Math.sqrt(transposed.reduce((sum, x) => sum + x * x, 0) / n);
  assert.ok(norm > 1 / 1.4 && norm < 1.4);
});
