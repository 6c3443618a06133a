// Streamed graphs against the whole-model graphs: block by block, with a cache, and the head in tiles; float32 equal, int8 near.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { randomTensors } from '../../bench/workload/shapes.js';
import { type BlockCache, StreamedModel, type StreamedOptions } from '../../bench/workload/streamed-model.js';
import { Accelerator, type TopK } from '../../src/edge/teacher/accelerator.js';
import { segmentsIn } from '../../src/edge/teacher/unlocked-model.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { headTiles } from '../../src/model/head-tiles.js';
import { readSegmentWeight, writeSegments } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import { buildBlock } from '../../src/model/streamed-graphs.js';
import { TopKRows } from '../../src/trusted/enclave/top-k.js';
import { temporaryFolder, tinyConfig } from '../owner/tiny-model.js';

const configs: Readonly<Record<string, DecoderConfig>> = {
  plain: { ...tinyConfig, headDim: 8, numHiddenLayers: 3 },
  'fused rotary, biases, untied': {
    ...tinyConfig,
    headDim: 16,
    qkvBias: true,
    outputBias: true,
    mlpBias: true,
    tieWordEmbeddings: false,
  },
  'attention window, 36 neurons': {
    ...tinyConfig,
    headDim: 8,
    modelType: 'mistral',
    slidingWindow: 4,
    intermediateSize: 36,
  },
};
const [batch, tokens] = [5, 9];
const options: StreamedOptions = { format: 'float32', groupSequences: 2, headRows: 7, tileColumns: 13 };

interface Pair {
  readonly whole: Accelerator;
  readonly streamed: StreamedModel;
  readonly ids: Int32Array;
}

async function openPair(t: TestContext, config: DecoderConfig, changes: Partial<StreamedOptions> = {}): Promise<Pair> {
  const folder = await temporaryFolder(t);
  const tensors = randomTensors(config);
  const weightOf = async (weight: Parameters<typeof readSegmentWeight>[1]): Promise<Float32Array> =>
    (await readSegmentWeight(tensors, weight)).map((x) => (weight.kind === 'gain' ? x : 6 * x));
  await writeSegments(folder, buildSegments(config), weightOf);
  const whole = await Accelerator.open(segmentsIn(folder, 2), config);
  const table = (await tensors.read('model.embed_tokens.weight')).map((x) => 6 * x);
  const streamed = await StreamedModel.open(config, table, weightOf, { ...options, ...changes });
  t.after(() => Promise.all([whole.close(), streamed.close()]));
  const ids = Int32Array.from({ length: batch * tokens }, (_, i) => (i * 31 + 5) % config.vocabSize);
  return { whole, streamed, ids };
}

async function wholeTopK({ whole, ids }: Pair, k: number, temperature = 1) {
  const hidden = await whole.run(0, ids, { batch, tokens, lengths: Array<number>(batch).fill(tokens) });
  return whole.topK(hidden, batch * tokens, k, temperature);
}

async function lastHidden({ streamed, whole, ids }: Pair): Promise<Float32Array> {
  const hidden = streamed.embed(ids);
  for (let i = 0; i < whole.config.numHiddenLayers; i += 1) await streamed.runBlock(i, hidden, batch, tokens);
  return hidden;
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length);
  return a.reduce((largest, x, i) => Math.max(largest, Math.abs(x - b[i]!)), 0);
}

/** The same ids in the same order, but for neighbours whose log-probabilities are closer than the two computations. */
function assertSameIds(
  { ids, k }: { readonly ids: Int32Array; readonly k: number },
  expected: TopK,
  difference: number,
): void {
  let swapped = 0;
  ids.forEach((id, i) => {
    if (id === expected.ids[i]) return;
    swapped += 1;
    const row = Math.floor(i / k) * k;
    const at = row + expected.ids.subarray(row, row + k).indexOf(id);
    const last = expected.logprobs[row + k - 1]!;
    const logprob = at < row ? last : expected.logprobs[at]!;
    assert.ok(Math.abs(logprob - expected.logprobs[i]!) <= 2 * difference, `${id} in place of ${expected.ids[i]}`);
  });
  assert.ok(swapped < 0.01 * ids.length, `${swapped} of ${ids.length} ids differ`);
}

for (const [name, config] of Object.entries(configs)) {
  test(`${name}: block by block in groups, with the head in tiles, is the whole model`, async (t) => {
    const pair = await openPair(t, config);
    const { vocabSize } = config;
    for (const [k, temperature] of [
      [5, 1],
      [40, 0.7],
      [vocabSize, 1],
    ] as const) {
      const expected = await wholeTopK(pair, k, temperature);
      const found = await pair.streamed.topK(await lastHidden(pair), batch * tokens, k, temperature);
      const difference = largestDifference(found.logprobs, expected.logprobs);
      assert.ok(difference < 1e-4, `k = ${k}: log-probabilities differ by ${difference}`);
      assertSameIds({ ids: found.ids, k }, expected, difference);
    }
  });

  test(`${name}: the head in tiles is the head in one piece`, async (t) => {
    const pair = await openPair(t, config);
    const [rows, k] = [50, 12];
    const hidden = Float32Array.from({ length: rows * config.hiddenSize }, (_, i) => Math.sin(i * i * 0.7));
    // The whole model's head reads normalised rows; the gains of these configs are one.
    const normed = hidden.map((x, i) => {
      const row = hidden.subarray(i - (i % config.hiddenSize)).subarray(0, config.hiddenSize);
      const square = row.reduce((sum, y) => sum + y * y, 0) / row.length;
      return x / Math.sqrt(square + config.rmsNormEps);
    });
    const expected = await pair.whole.topK(normed, rows, k, 0.5);
    const found = await pair.streamed.topK(hidden, rows, k, 0.5);
    assert.deepEqual(found.ids, expected.ids);
    const difference = largestDifference(found.logprobs, expected.logprobs);
    assert.ok(difference < 1e-5, `log-probabilities differ by ${difference}`);
  });

  // The runtime takes several new tokens after a cache for one sequence, one new token for many.
  for (const [groupSequences, cached] of [
    [1, 6],
    [3, 8],
  ] as const) {
    test(`${name}: ${tokens - cached} tokens after ${cached} cached ones are as in one go`, async (t) => {
      const { streamed, ids } = await openPair(t, config, { groupSequences });
      const columns = (from: number, to: number): Int32Array =>
        ids.filter((_, i) => i % tokens >= from && i % tokens < to);
      const whole = streamed.embed(ids);
      const first = streamed.embed(columns(0, cached));
      const rest = streamed.embed(columns(cached, tokens));
      for (let i = 0; i < config.numHiddenLayers; i += 1) {
        await streamed.runBlock(i, whole, batch, tokens);
        const caches: BlockCache[] = await streamed.runBlock(i, first, batch, cached, null, true);
        await streamed.runBlock(i, rest, batch, tokens - cached, caches);
      }
      const { hiddenSize: width } = config;
      const added = (tokens - cached) * width;
      for (let i = 0; i < batch; i += 1) {
        const end = whole.subarray((i * tokens + cached) * width, (i + 1) * tokens * width);
        const difference = largestDifference(rest.subarray(i * added, (i + 1) * added), end);
        assert.ok(difference < 1e-4, `sequence ${i} differs by ${difference}`);
      }
    });
  }

  test(`${name}: int8 stays near float32, but is not float32`, async (t) => {
    const pair = await openPair(t, config, { format: 'int8' });
    const { vocabSize } = config;
    const expected = await wholeTopK(pair, vocabSize);
    const found = await pair.streamed.topK(await lastHidden(pair), batch * tokens, vocabSize, 1);
    let kl = 0;
    for (let row = 0; row < batch * tokens; row += 1) {
      const logprobs = new Map<number, number>();
      for (let i = row * vocabSize; i < (row + 1) * vocabSize; i += 1) logprobs.set(found.ids[i]!, found.logprobs[i]!);
      for (let i = row * vocabSize; i < (row + 1) * vocabSize; i += 1)
        kl += Math.exp(expected.logprobs[i]!) * (expected.logprobs[i]! - logprobs.get(expected.ids[i]!)!);
    }
    kl /= batch * tokens;
    assert.ok(kl > 1e-8 && kl < 2e-3, `KL to float32 is ${kl} nats a token`);
  });
}

test('blocks of one shape are one graph, without weights and without the number of the block', () => {
  for (const format of ['float32', 'int8'] as const) {
    const config: DecoderConfig = { ...tinyConfig, hiddenSize: 256, intermediateSize: 512 };
    const [first, second] = [buildBlock(config, 0, format), buildBlock(config, 1, format)];
    assert.deepEqual(first.model, second.model);
    assert.ok(first.model.length < 20_000, `${first.model.length} bytes`);
    assert.notDeepEqual(first.weights[1]!.weight.parts, second.weights[1]!.weight.parts);
    const inputs = first.weights.flatMap((weight) => weight.inputs.map(({ name, dtype }) => `${name} ${dtype}`));
    const matrix = (name: string): string[] =>
      format === 'int8' ? [`${name}.weight uint8`, `${name}.weight.scale float32`] : [`${name}.weight float32`];
    assert.deepEqual(inputs, [
      'input_layernorm.weight float32',
      ...matrix('self_attn.qkv_proj'),
      ...matrix('self_attn.o_proj'),
      'post_attention_layernorm.weight float32',
      ...matrix('mlp.gate_proj'),
      ...matrix('mlp.up_proj'),
      ...matrix('mlp.down_proj'),
    ]);
  }
});

test('tiles cover the vocabulary once, all of one size but the last', () => {
  for (const [vocabSize, columns] of [
    [97, 13],
    [49_152, 4096],
    [5, 9],
  ] as const) {
    const tiles = headTiles(vocabSize, columns);
    let next = 0;
    for (const { start, columns: width } of tiles) {
      assert.equal(start, next);
      const last = start + width === vocabSize;
      assert.ok(width > 0 && width <= columns && (last || width === tiles[0]!.columns));
      next += width;
    }
    assert.equal(next, vocabSize);
  }
});

test('of equal logits the lower id comes first, and a row that no tile improves stays', () => {
  const top = new TopKRows(2, 3);
  const logSums = Float32Array.of(Math.log(3), 0);
  const none = Number.NEGATIVE_INFINITY;
  top.add({ logits: Float32Array.of(1, 1, 0, 2, none, none), ids: Int32Array.of(0, 2, 1, 1, 0, 2), logSums }, 0, 0);
  top.add({ logits: Float32Array.of(1, 0, -1, 3, 2, 1), ids: Int32Array.of(1, 0, 2, 2, 0, 1), logSums }, 0, 10);
  const { ids, logprobs } = top.finish();
  assert.deepEqual([...ids], [0, 2, 11, 12, 1, 10]);
  const [first, second] = [Math.log(6), Math.log(2)];
  [1 - first, 1 - first, 1 - first, 3 - second, 2 - second, 2 - second].forEach((x, i) => {
    assert.ok(Math.abs(logprobs[i]! - x) < 1e-6);
  });
});
