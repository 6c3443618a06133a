// int8 products against exact integer arithmetic, at the magnitudes where 16-bit sums of two products overflow. Kernels for unsigned times
// signed saturate there on CPUs without VNNI (both AVX2 and AVX-512), so these tests tell most where VNNI is missing.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Dim, type DType, Graph, type Value } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { Session } from '../../src/graph/runtime.js';
import { createLinear } from '../../src/model/linear-lowering.js';
import { storedTensors } from '../../src/model/stored-weight.js';
import type { SegmentWeight } from '../../src/model/weights.js';

/** Weights are inputs, as in the enclave. */
class StreamedGraph extends Graph {
  override weight(name: string, shape: readonly Dim[], dtype: DType = 'float32'): Value {
    return this.input(name, dtype, shape);
  }
}

interface Sizes {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

// One row, tails of every kind, and more than one block of a kernel in each direction.
const sizes: readonly Sizes[] = [
  { rows: 1, inputs: 16, outputs: 16 },
  { rows: 5, inputs: 31, outputs: 17 },
  { rows: 67, inputs: 577, outputs: 211 },
];

/** Integers −127 … 127; some entry of every row of x and every column of w is ±127, so that quantising is exact. */
interface Case {
  readonly name: string;
  x(row: number, input: number): number;
  w(input: number, output: number): number;
}

const spread = (a: number, b: number): number => ((a * 7919 + b * 104_729 + a * b * 31) % 255) - 127;
const cases: readonly Case[] = [
  { name: 'largest times largest', x: () => 127, w: () => 127 },
  { name: 'largest times smallest', x: () => 127, w: () => -127 },
  { name: 'smallest times smallest', x: () => -127, w: () => -127 },
  { name: 'signs that follow the output', x: () => 127, w: (_, output) => (output % 2 === 0 ? 127 : -127) },
  { name: 'signs that follow the input', x: (_, i) => (i % 3 ? 127 : -127), w: (i) => (i % 2 ? 127 : -127) },
  {
    name: 'every magnitude',
    x: (row, input) => (input === 0 ? 127 : spread(row, input)),
    w: (input, output) => (input === 1 ? -127 : spread(input, output)),
  },
];

async function product(t: TestContext, { rows, inputs, outputs }: Sizes, { x, w }: Case): Promise<Float32Array> {
  const shape = [inputs, outputs];
  const weight = { name: 'w', kind: 'matrix', shape, block: null, rows: null, parts: [], gain: null } as const;
  const int8: SegmentWeight = { ...weight, format: 'int8' };
  const graph = new StreamedGraph();
  const y = createLinear(graph, 'int8').product(graph.input('x', 'float32', ['rows', inputs]), int8);
  graph.output('y', y);
  const session = await Session.open(encodeModel(graph));
  t.after(() => session.close());
  const matrix = Float32Array.from({ length: inputs * outputs }, (_, i) => w(Math.floor(i / outputs), i % outputs));
  const data = Float32Array.from({ length: rows * inputs }, (_, i) => x(Math.floor(i / inputs), i % inputs));
  const stored = storedTensors(int8, matrix).map(({ name, ...tensor }) => [name, tensor] as const);
  const out = await session.run({ x: { data, shape: [rows, inputs] }, ...Object.fromEntries(stored) });
  return out.y!.data as Float32Array;
}

for (const size of sizes) {
  const { rows, inputs, outputs } = size;
  for (const one of cases) {
    test(`${rows}×${inputs}×${outputs}, ${one.name}: the exact product`, async (t) => {
      const found = await product(t, size, one);
      for (let row = 0; row < rows; row += 1) {
        for (let output = 0; output < outputs; output += 1) {
          let exact = 0;
          for (let input = 0; input < inputs; input += 1) exact += one.x(row, input) * one.w(input, output);
          // The scales are float32; the sum itself is exact.
          const difference = Math.abs(found[row * outputs + output]! - exact);
          assert.ok(difference <= 1e-6 * Math.abs(exact) + 1e-3, `row ${row}, output ${output}: off by ${difference}`);
        }
      }
    });
  }
}
