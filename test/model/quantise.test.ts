// int8 weights: error bounds, the mix of neurons, and scales that move between up and down without changing the model.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { randomTensors } from '../../bench/workload/shapes.js';
import { StreamedModel } from '../../bench/workload/streamed-model.js';
import { equaliseNeurons } from '../../src/model/equalise-neurons.js';
import { hadamard, neuronMix, quantiseColumns, quantiseWeight, weightZero } from '../../src/model/quantise.js';
import { readSegmentWeight } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import type { SegmentWeight } from '../../src/model/weights.js';
import { tinyConfig } from '../owner/tiny-model.js';

const weights = buildSegments(tinyConfig).flatMap((segment) => segment.weights);

function named(name: string): SegmentWeight {
  return weights.find((weight) => weight.name === name)!;
}

test('every element is within half a step, and each column uses its whole range', () => {
  const element = fc.float({ min: -1e3, max: 1e3, noNaN: true });
  const matrices = fc
    .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }))
    .chain(([rows, columns]) =>
      fc.tuple(fc.constant(columns), fc.array(element, { minLength: rows * columns, maxLength: rows * columns })),
    );
  fc.assert(
    fc.property(matrices, ([columns, values]) => {
      const weight = Float32Array.from(values);
      const { codes, scales } = quantiseColumns(weight, weight.length / columns, columns);
      for (let j = 0; j < columns; j += 1) {
        let largest = 0;
        for (let i = j; i < weight.length; i += columns) {
          const value = codes[i]! - weightZero;
          const error = Math.abs(weight[i]! - value * scales[j]!);
          assert.ok(error <= scales[j]! * 0.5001 + 1e-38, `${weight[i]} became ${value} · ${scales[j]}`);
          largest = Math.max(largest, Math.abs(value));
        }
        assert.equal(largest, scales[j]! > 1e-38 ? 127 : largest);
      }
    }),
    { seed: 20261124 },
  );
});

test('a column of zeros stays zero', () => {
  const { codes, scales } = quantiseColumns(Float32Array.of(0, 1, 0, -2), 2, 2);
  assert.deepEqual([...codes], [128, 192, 128, 1]);
  assert.equal(scales[0], 0);
});

test('Hadamard matrices are orthogonal and their own inverse', () => {
  for (const size of [1, 2, 8, 32]) {
    const h = hadamard(size);
    for (let i = 0; i < size; i += 1) {
      for (let j = 0; j < size; j += 1) {
        let dot = 0;
        for (let k = 0; k < size; k += 1) dot += h[i * size + k]! * h[k * size + j]!;
        assert.ok(Math.abs(dot - (i === j ? 1 : 0)) < 1e-6);
      }
    }
  }
});

test('down is stored mixed by the matrix that the graph mixes its input by; other weights are not', () => {
  const down = named('model.layers.0.mlp.down_proj.weight');
  const size = neuronMix(down);
  assert.equal(size, 8);
  assert.equal(neuronMix(named('model.layers.0.mlp.up_proj.weight')), 1);
  const [inputs, outputs] = down.shape as [number, number];
  const plain = Float32Array.from({ length: inputs * outputs }, (_, i) => Math.sin(i * i));
  const { codes, scales } = quantiseWeight(down, plain);
  const h = hadamard(size);
  for (let i = 0; i < inputs; i += 1) {
    for (let j = 0; j < outputs; j += 1) {
      let mixed = 0;
      const first = i - (i % size);
      for (let k = 0; k < size; k += 1) mixed += h[(i % size) * size + k]! * plain[(first + k) * outputs + j]!;
      assert.ok(Math.abs(mixed - (codes[i * outputs + j]! - weightZero) * scales[j]!) <= scales[j]! * 0.51);
    }
  }
});

test('equalised neurons: other weights, the same model', async (t) => {
  const config = { ...tinyConfig, headDim: 8, mlpBias: true };
  const tensors = randomTensors(config);
  const every = buildSegments(config).flatMap((segment) => segment.weights);
  // Neurons of very different loudness.
  const plain = async (weight: SegmentWeight): Promise<Float32Array> =>
    (await readSegmentWeight(tensors, weight)).map((x, i) => 2 * x * (1 + (i % 7)));
  const changed: string[] = [];
  const equalised = equaliseNeurons(every, plain);
  const watched = async (weight: SegmentWeight): Promise<Float32Array> => {
    const [before, after] = [await plain(weight), await equalised(weight)];
    if (before.some((x, i) => x !== after[i])) changed.push(weight.name.replace(/.*mlp\./, ''));
    return after;
  };
  const ids = Int32Array.from({ length: 12 }, (_, i) => (i * 17) % config.vocabSize);
  const results: Float32Array[] = [];
  for (const weightOf of [plain, watched]) {
    const table = await plain(every.find(({ kind }) => kind === 'table')!);
    const options = { format: 'float32', groupSequences: 1, headRows: 12, tileColumns: 97 } as const;
    const model = await StreamedModel.open(config, table, weightOf, options);
    t.after(() => model.close());
    results.push((await model.run(ids, 2, 6, 97)).logprobs);
  }
  const perBlock = ['up_proj.weight', 'up_proj.bias', 'down_proj.weight'];
  assert.deepEqual(changed, [...perBlock, ...perBlock]);
  results[0]!.forEach((x, i) => {
    assert.ok(Math.abs(x - results[1]![i]!) < 1e-4);
  });
});
