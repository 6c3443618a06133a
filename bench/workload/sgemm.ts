// Single-precision matrix products through the same runtime, each at the shape a model uses: the yardstick of the share benches.
// A weight of each shape is used `count` times, so it stays in cache where the model's would not: the yardstick is generous.
import { Graph } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { Session, type Tensor } from '../../src/graph/runtime.js';
import { randomFloats } from './shapes.js';

export interface Product {
  /** Left [..., m, k], right [..., k, n]; leading axes are batches. */
  readonly left: readonly number[];
  readonly right: readonly number[];
  readonly count: number;
  /** The right side is a constant, which the runtime lays out in advance (a teacher's weights). */
  readonly constant: boolean;
}

/** Floating point operations of all products. */
export function flops(products: readonly Product[]): number {
  return products.reduce(
    (sum, { left, right, count }) => sum + 2 * count * left.reduce((a, b) => a * b, 1) * right.at(-1)!,
    0,
  );
}

/**
 * All products as one graph in one session, each as often as its count says: one pool of threads, as the model has. Optimisation
 * is off, or the runtime would merge the repetitions. `spin` as in the sessions that are measured against it.
 */
export async function openProducts(
  products: readonly Product[],
  spin: boolean,
): Promise<{ run(): Promise<void>; close(): Promise<void> }> {
  const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
  const graph = new Graph();
  const feeds: Record<string, Tensor> = {};
  products.forEach(({ left, right, count, constant }, i) => {
    const a = graph.input(`a${i}`, 'float32', left);
    feeds[a.name] = { data: randomFloats(size(left), 3, 1), shape: left };
    const values = randomFloats(size(right), 5, 0.05);
    const b = constant ? graph.constant(values, right) : graph.input(`b${i}`, 'float32', right);
    if (!constant) feeds[b.name] = { data: values, shape: right };
    const shape = [...left.slice(0, -1), right.at(-1)!];
    for (let n = 0; n < count; n += 1) {
      const y = graph.emitOne('MatMul', [a, b], { shape });
      // A one-element view as the output: the product must be computed, its result need not be copied out.
      const corner = shape.map(() => 1);
      const first = graph.emitOne('Slice', [y, graph.int64s(shape.map(() => 0)), graph.int64s(corner)], {
        shape: corner,
      });
      graph.output(`y${i}_${n}`, first);
    }
  });
  const session = await Session.open(encodeModel(graph), { optimise: false, spin });
  return {
    run: async () => {
      await session.run(feeds);
    },
    close: () => session.close(),
  };
}
