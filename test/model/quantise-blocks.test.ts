// Weights in quantised blocks: error bounds, packing, and the runtime's product of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Graph } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { Session, type Tensor } from '../../src/graph/runtime.js';
import { createLinear } from '../../src/model/linear-lowering.js';
import { type BlockWeight, blockSize, quantiseBlocks } from '../../src/model/quantise-blocks.js';
import { storedTensors } from '../../src/model/stored-weight.js';
import type { SegmentWeight } from '../../src/model/weights.js';

/** The weight that codes, scales and zeros stand for, [inputs, outputs]. */
function dequantise({ codes, scales, zeros }: BlockWeight, inputs: number, outputs: number): Float32Array {
  const blocks = Math.ceil(inputs / blockSize);
  return Float32Array.from({ length: inputs * outputs }, (_, i) => {
    const [row, column] = [Math.floor(i / outputs), i % outputs];
    const block = Math.floor(row / blockSize);
    const at = (column * blocks + block) * blockSize + (row % blockSize);
    const nibble = (bytes: Uint8Array, index: number): number => (bytes[index >> 1]! >> (4 * (index & 1))) & 15;
    const code = zeros === null ? codes[at]! : nibble(codes, at);
    const zero = zeros === null ? 128 : nibble(zeros.subarray(column * Math.ceil(blocks / 2)), block);
    return (code - zero) * scales[column * blocks + block]!;
  });
}

const matrices = fc
  .record({ inputs: fc.integer({ min: 1, max: 100 }), outputs: fc.integer({ min: 1, max: 5 }) })
  .chain(({ inputs, outputs }) => {
    const size = inputs * outputs;
    const element = fc.float({ min: -100, max: 100, noNaN: true });
    return fc.record({
      inputs: fc.constant(inputs),
      outputs: fc.constant(outputs),
      weight: fc.array(element, { minLength: size, maxLength: size }).map((values) => Float32Array.from(values)),
    });
  });

test('8 bits: an element’s error is at most half of its block’s step', () => {
  fc.assert(
    fc.property(matrices, ({ inputs, outputs, weight }) => {
      const blocks = Math.ceil(inputs / blockSize);
      const quantised = quantiseBlocks(weight, inputs, outputs, 8);
      dequantise(quantised, inputs, outputs).forEach((x, i) => {
        const block = Math.floor(Math.floor(i / outputs) / blockSize);
        const step = quantised.scales[(i % outputs) * blocks + block]!;
        assert.ok(Math.abs(x - weight[i]!) <= 0.5001 * step + 1e-38, `${weight[i]} became ${x}`);
      });
    }),
    { seed: 20261124 },
  );
});

test('4 bits: a block’s squared error is at most that of 16 even steps over its range and zero', () => {
  fc.assert(
    fc.property(matrices, ({ inputs, outputs, weight }) => {
      const found = dequantise(quantiseBlocks(weight, inputs, outputs, 4), inputs, outputs);
      for (let column = 0; column < outputs; column += 1) {
        for (let first = 0; first < inputs; first += blockSize) {
          let [low, high, error, count] = [0, 0, 0, 0];
          for (let row = first; row < Math.min(inputs, first + blockSize); row += 1) {
            const x = weight[row * outputs + column]!;
            [low, high] = [Math.min(low, x), Math.max(high, x)];
            error += (x - found[row * outputs + column]!) ** 2;
            count += 1;
          }
          // Half a step for the element, half a step for the zero.
          const step = (high - low) / 15;
          assert.ok(error <= count * (1.001 * step) ** 2 + 1e-30, `column ${column}, row ${first}: ${error}`);
        }
      }
    }),
    { seed: 20261124 },
  );
});

test('4 bits: what lies on the grid is stored exactly, and a block of zeros stays zero', () => {
  const grid = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? ((i % 16) - 5) * 0.25 : 0));
  const found = dequantise(quantiseBlocks(grid, 64, 1, 4), 64, 1);
  assert.deepEqual(found, grid);
});

for (const format of ['block8', 'block4'] as const) {
  for (const [inputs, outputs] of [
    [64, 48],
    [24, 7],
    [96, 33],
  ] as const) {
    test(`${format}: the runtime's product [${inputs}, ${outputs}] is that of the dequantised weight`, async () => {
      const weight: SegmentWeight = {
        name: 'w',
        kind: 'matrix',
        shape: [inputs, outputs],
        block: null,
        rows: 'residual',
        parts: [],
        gain: null,
        format,
      };
      const data = Float32Array.from({ length: inputs * outputs }, (_, i) => Math.sin(i * i + 1));
      const graph = new Graph();
      const x = graph.input('x', 'float32', ['rows', inputs]);
      graph.output('y', createLinear(graph, format).product(x, weight));
      const stored = storedTensors(weight, data);
      // The weights as inputs: nothing needs to be written.
      for (const { name, dtype, shape } of graph.weights) graph.input(name, dtype, shape);
      graph.weights.length = 0;
      const session = await Session.open(encodeModel(graph));
      const rows = 5;
      const feeds: Record<string, Tensor> = Object.fromEntries(stored.map((tensor) => [tensor.name, tensor]));
      const input = Float32Array.from({ length: rows * inputs }, (_, i) => Math.cos(3 * i));
      const { y } = await session.run({ ...feeds, x: { data: input, shape: [rows, inputs] } });
      await session.close();
      const w = dequantise(quantiseBlocks(data, inputs, outputs, format === 'block4' ? 4 : 8), inputs, outputs);
      let [error, size] = [0, 0];
      for (let i = 0; i < rows * outputs; i += 1) {
        let sum = 0;
        for (let j = 0; j < inputs; j += 1)
          sum += input[Math.floor(i / outputs) * inputs + j]! * w[j * outputs + (i % outputs)]!;
        error += (sum - (y!.data[i] as number)) ** 2;
        size += sum ** 2;
      }
      // The runtime quantises activations to 8 bits.
      assert.ok(Math.sqrt(error / size) < 0.012, `relative error ${Math.sqrt(error / size)}`);
    });
  }
}
