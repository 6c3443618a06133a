// Locks: each transform alone, and all together, leave a model's log-probabilities as they are, over random shapes, families and seeds;
// and each is really there: the weights it touches change.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Accelerator } from '../../src/edge/teacher/accelerator.js';
import { segmentsIn } from '../../src/edge/teacher/unlocked-model.js';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { memoryTensors } from '../../src/model/checkpoint/memory-tensors.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { readSegmentWeight, writeSegments } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import type { TensorSource } from '../../src/model/tensors.js';
import type { SegmentWeight, Space } from '../../src/model/weights.js';
import { createScheme, type LockScheme } from '../../src/owner/scheme/lock-scheme.js';
import { lockWeight } from '../../src/owner/scheme/lock-weight.js';
import { haarOrthogonal, wellConditioned } from '../../src/owner/scheme/orthogonal.js';
import { LabelledStream } from '../../src/trusted/lock/stream.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import type { Scheme } from '../../src/trusted/wire/manifest.js';
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
  norms: fc.constantFrom('pre' as const, 'post' as const, 'both' as const),
  qkNorm: fc.constantFrom(null, null, 'head' as const, 'width' as const),
  gatedMlp: fc.boolean(),
  activation: fc.constantFrom('silu' as const, 'gelu' as const),
  positions: fc.constantFrom('rope' as const, 'rope' as const, 'learned' as const),
  headBias: fc.boolean(),
  window: fc.constantFrom(null, 'all' as const, 'first' as const),
  localRopeTheta: fc.constantFrom(null, 100),
  softCaps: fc.boolean(),
  seed: fc.uint8Array({ minLength: 32, maxLength: 32 }),
});
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

function configOf(shape: Shape): DecoderConfig {
  const { kvHeads, group, headDim, hiddenSize, intermediateSize, vocabSize, biases, tied } = shape;
  const { norms, qkNorm, gatedMlp, activation, positions, headBias, window, localRopeTheta, softCaps } = shape;
  return {
    ...tinyConfig,
    ...{ norms, qkNorm, gatedMlp, activation, positions, headBias, localRopeTheta },
    slidingWindow: window === null ? null : 4,
    slidingBlocks: window === 'first' ? [true, false] : null,
    attentionScale: softCaps ? 0.3 : null,
    attentionSoftCap: softCaps ? 3 : null,
    finalSoftCap: softCaps ? 6 : null,
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
  denseOutputGains = false,
): Promise<Float32Array> {
  await mkdir(folder, { recursive: true });
  await writeSegments(folder, buildSegments(config, { denseOutputGains }), weightOf);
  const accelerator = await Accelerator.open(segmentsIn(folder, 2), config);
  const hidden = await accelerator.run(0, ids, { batch: 1, tokens, lengths: [tokens] });
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

const everything: readonly Space[] = [
  ...(['residual', 'vocabulary', 'query', 'key', 'value', 'heads', 'gate', 'up', 'neurons'] as const),
  ...(['attention-out', 'feed-forward-out'] as const),
];

/** What is locked, the shapes it applies to, and how many of them are tried. */
interface Transform {
  readonly name: string;
  readonly scheme: Scheme;
  readonly spaces: readonly Space[];
  readonly shapes?: Partial<Shape>;
  readonly runs: number;
}

const attention = ['query', 'key', 'value', 'heads'] as const;
const transforms: readonly Transform[] = [
  { name: 'residual basis and folded gains', scheme: 'rotation', spaces: ['residual'], runs: 12 },
  { name: 'vocabulary', scheme: 'rotation', spaces: ['vocabulary'], runs: 8 },
  { name: 'attention: query/key pairs, value mixing, heads', scheme: 'rotation', spaces: attention, runs: 12 },
  {
    name: 'attention with learned positions: query/key matrices',
    scheme: 'rotation',
    spaces: attention,
    shapes: { positions: 'learned', qkNorm: null },
    runs: 8,
  },
  {
    name: 'attention with a norm over all heads: permuted gains',
    scheme: 'rotation',
    spaces: attention,
    shapes: { qkNorm: 'width', kvHeads: 3, group: 2 },
    runs: 8,
  },
  { name: 'feed-forward: neurons and signed scales', scheme: 'rotation', spaces: ['gate', 'up', 'neurons'], runs: 8 },
  {
    name: 'bases of sublayer outputs before their norm',
    scheme: 'rotation',
    spaces: ['attention-out', 'feed-forward-out'],
    shapes: { norms: 'both' },
    runs: 8,
  },
  {
    name: 'the same where only outputs are normalised, with the residual',
    scheme: 'rotation',
    spaces: ['residual', 'attention-out', 'feed-forward-out'],
    shapes: { norms: 'post' },
    runs: 8,
  },
  { name: 'everything', scheme: 'rotation', spaces: everything, runs: 30 },
  { name: 'everything', scheme: 'permutation', spaces: everything, runs: 20 },
];

for (const { name, scheme, spaces, shapes: fixed, runs } of transforms) {
  test(`${scheme}, ${name}: log-probabilities stay, weights do not`, async (t) => {
    const folder = await temporaryFolder(t);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(shapes, async (random) => {
        const shape = { ...random, ...fixed };
        const config = configOf(shape);
        const tensors = randomTensors(config, shape.seed);
        // Every other run as for weights that are quantised afterwards.
        const whole = createScheme(scheme, shape.seed, config, { quantised: run % 2 === 1 });
        const lock = only(whole, spaces);
        const plainIds = Int32Array.from({ length: tokens }, (_, i) => (7 * i + 3) % config.vocabSize);
        const own = join(folder, String(run++));
        const plain = await logprobs(join(own, 'plain'), config, plainIds, (weight) =>
          readSegmentWeight(tensors, weight),
        );
        const changed = new Set<Space>();
        const vocabulary = spaces.includes('vocabulary')
          ? vocabularyPermutation(shape.seed, scheme, config.vocabSize)
          : Int32Array.from({ length: config.vocabSize }, (_, i) => i);
        const lockedIds = plainIds.map((id) => vocabulary[id]!);
        const lockedWeight = async (weight: SegmentWeight): Promise<Float32Array> => {
          const result = await lockWeight(lock, tensors, weight, 0);
          const before = await readSegmentWeight(tensors, weight);
          if (result.some((x, i) => x !== before[i])) for (const part of weight.parts) changed.add(part.columns);
          return result;
        };
        const locked = await logprobs(join(own, 'locked'), config, lockedIds, lockedWeight, whole.foldsGains);
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

test('a sublayer output that is rotated without the matrix behind its norm is noticed', async (t) => {
  const folder = await temporaryFolder(t);
  const config: DecoderConfig = { ...tinyConfig, norms: 'both' };
  const seed = new Uint8Array(32).fill(6);
  const tensors = randomTensors(config, seed);
  const ids = Int32Array.from({ length: tokens }, (_, i) => i);
  const plain = await logprobs(join(folder, 'plain'), config, ids, (weight) => readSegmentWeight(tensors, weight));
  const lock = only(createScheme('rotation', seed, config), ['residual']);
  const weightOf = (weight: SegmentWeight): Promise<Float32Array> => lockWeight(lock, tensors, weight, 0);
  const right = await logprobs(join(folder, 'right'), config, ids, weightOf, true);
  const wrong = await logprobs(join(folder, 'wrong'), config, ids, weightOf, false);
  const worst = (found: Float32Array): number => Math.max(...found.map((x, i) => Math.abs(x - plain[i]!)));
  assert.ok(worst(right) < 1e-3 && worst(wrong) > 1e-2, `${worst(right)}, ${worst(wrong)}`);
});

test('what a family does not commute with is left out and named', () => {
  const seed = new Uint8Array(32);
  const named = (features: Partial<DecoderConfig>, scheme: Scheme = 'rotation'): readonly string[] =>
    createScheme(scheme, seed, { ...tinyConfig, ...features }).leftOut;
  assert.deepEqual(named({}), []);
  assert.deepEqual(named({ norms: 'both', attentionSoftCap: 5, positions: 'learned' }), []);
  assert.match(named({ qkNorm: 'head', modelType: 'qwen3' }).join(), /^query\/key pairs: qwen3 [^,]+, [^,]+$/);
  assert.match(named({ gatedMlp: false, modelType: 'gpt2' }).join(), /^neuron scales: gpt2/);
  assert.deepEqual(named({ qkNorm: 'width', gatedMlp: false }, 'permutation'), []);
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
