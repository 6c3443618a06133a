// Locking in tiles: tiles of any size, and tensors read row by row, give the bits of the weight locked whole; weights that are no
// numbers are named.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { memoryTensors } from '../../src/model/checkpoint/memory-tensors.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { buildSegments } from '../../src/model/segments.js';
import type { TensorSource } from '../../src/model/tensors.js';
import { joinTiles, type WeightTile } from '../../src/model/weight-tiles.js';
import { blockDiagonal, chain, change, orthogonal, permuted, scaled } from '../../src/owner/scheme/basis.js';
import { createScheme } from '../../src/owner/scheme/lock-scheme.js';
import { lockedTiles, lockWeight } from '../../src/owner/scheme/lock-weight.js';
import { haarOrthogonal } from '../../src/owner/scheme/orthogonal.js';
import { LabelledStream } from '../../src/trusted/lock/stream.js';
import { tinyConfig } from './tiny-model.js';

const config: DecoderConfig = {
  ...tinyConfig,
  vocabSize: 301,
  hiddenSize: 70,
  intermediateSize: 45,
  headDim: 8,
  qkvBias: true,
  outputBias: true,
  tieWordEmbeddings: false,
};

function randomModel(shape: DecoderConfig): Map<string, { shape: readonly number[]; data: Float32Array }> {
  const stream = new LabelledStream(new Uint8Array(32).fill(9), 'tiles');
  return new Map(
    expectedTensors(shape).map(({ name, shape: dims }) => {
      const size = dims.reduce((a, b) => a * b, 1);
      return [name, { shape: dims, data: Float32Array.from({ length: size }, () => stream.u32() / 2 ** 32 - 0.4) }];
    }),
  );
}

function sourceOf(model: ReturnType<typeof randomModel>): TensorSource {
  return memoryTensors([...model].map(([name, tensor]) => ({ name, ...tensor })));
}

const shapes: Readonly<Record<string, Partial<DecoderConfig>>> = {
  'tied head': { tieWordEmbeddings: true },
  'untied head': {},
  'norms of outputs and heads': { norms: 'both', qkNorm: 'head' },
  'learned positions, no gate, head bias': { positions: 'learned', gatedMlp: false, headBias: true },
};
for (const scheme of ['rotation', 'permutation'] as const) {
  for (const [name, features] of Object.entries(shapes)) {
    test(`${scheme}, ${name}: tiles of every size give the same bits`, async () => {
      const shape = { ...config, ...features };
      const tensors = sourceOf(randomModel(shape));
      let streamed = 0;
      const counted: TensorSource = {
        ...tensors,
        readRows: (name, start, count) => {
          streamed++;
          return tensors.readRows!(name, start, count);
        },
      };
      const lock = createScheme(scheme, new Uint8Array(32).fill(4), shape);
      let most = 0;
      const segments = buildSegments(shape, { denseOutputGains: lock.foldsGains });
      for (const weight of segments.flatMap((segment) => segment.weights)) {
        const whole = await lockWeight(lock, tensors, weight, 0);
        for (const [tile, large] of [
          [1, 0],
          [4 * 70 * 3, 0],
          [4 * 70 * 16, 1e9],
          [4 * 70 * 64, 5000],
        ] as const) {
          const tiles: WeightTile[] = [];
          async function* seen(): AsyncGenerator<WeightTile> {
            for await (const made of lockedTiles(lock, counted, weight, 0, { tile, whole: large })) {
              tiles.push(made);
              yield made;
            }
          }
          assert.deepEqual(await joinTiles(weight, seen()), whole, `${weight.name}, tiles of ${tile} bytes`);
          const covered = tiles.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
          assert.equal(covered, whole.length, weight.name);
          most = Math.max(most, tiles.length);
        }
      }
      assert.ok(most >= 301, 'the vocabulary was cut into single rows');
      assert.ok(streamed > 0, 'something was read row by row');
    });
  }
}

test('a source that reads whole tensors only is locked the same', async () => {
  const tensors = sourceOf(randomModel(config));
  const { readRows: _, ...whole } = tensors;
  const lock = createScheme('rotation', new Uint8Array(32).fill(4), config);
  for (const weight of buildSegments(config).flatMap((segment) => segment.weights)) {
    const tiles = lockedTiles(lock, whole, weight, 0, { tile: 1000, whole: 0 });
    assert.deepEqual(await joinTiles(weight, tiles), await lockWeight(lock, tensors, weight, 0), weight.name);
  }
});

test('changes of basis with groups that do not fit each other still compose', async () => {
  const stream = new LabelledStream(new Uint8Array(32).fill(8), 'chain');
  const n = 12;
  const blocks = Float32Array.from({ length: 3 * 16 }, () => stream.u32() / 2 ** 31 - 1);
  const changes = {
    single: permuted(stream.permutation(n)),
    heads: permuted(stream.permutation(3), 4),
    blocks: blockDiagonal(blocks, blocks, 4),
    factors: scaled(Float32Array.from({ length: n }, (_, i) => i + 1)),
    dense: orthogonal(await haarOrthogonal(stream, n), n),
  };
  const data = Float32Array.from({ length: n * 5 }, () => stream.u32() / 2 ** 31 - 1);
  for (const [one, first] of Object.entries(changes)) {
    for (const [two, second] of Object.entries(changes)) {
      for (const direction of ['write', 'read'] as const) {
        const expected = await change(second, direction, await change(first, direction, data, 5), 5);
        const found = await change(chain(first, second), direction, data, 5);
        assert.ok(
          found.every((x, i) => Math.abs(x - expected[i]!) < 1e-5),
          `${one}, then ${two}: ${direction}`,
        );
      }
    }
  }
});

test('NaN and infinity are refused with the name of their tensor, read whole or row by row', async () => {
  const lock = createScheme('rotation', new Uint8Array(32).fill(4), config);
  const names = ['model.embed_tokens.weight', 'model.layers.1.mlp.down_proj.weight', 'model.norm.weight'];
  for (const name of [...names, 'model.layers.0.self_attn.q_proj.bias', 'lm_head.weight']) {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const model = randomModel(config);
      model.get(name)!.data[17] = bad;
      const tensors = sourceOf(model);
      const lockAll = async (whole: number): Promise<void> => {
        for (const weight of buildSegments(config).flatMap((segment) => segment.weights))
          await joinTiles(weight, lockedTiles(lock, tensors, weight, 0, { tile: 4096, whole }));
      };
      for (const whole of [0, 1e9]) {
        const named = { code: 'weight-not-finite', details: { tensor: name, element: 17 } };
        await assert.rejects(lockAll(whole), named, `${name}, ${bad}`);
      }
    }
  }
});
