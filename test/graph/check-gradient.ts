// Compares an operator's derived gradient with central differences of its own forward pass, run through the runtime.
import assert from 'node:assert/strict';
import { gradients } from '../../src/graph/gradient.js';
import { Graph, sizeOf, type Value } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { type Feeds, Session, type Tensor } from '../../src/graph/runtime.js';

export interface GradientCase {
  /** Parameters: shape, and the range their random values are drawn from. */
  readonly inputs: Readonly<Record<string, { shape: readonly number[]; low?: number; high?: number }>>;
  /** Inputs without a gradient. */
  readonly fixed?: Feeds;
  build(graph: Graph, values: Readonly<Record<string, Value>>): Value;
  readonly step?: number;
  readonly tolerance?: number;
}

/** A small deterministic generator of numbers in [0, 1): tests must not depend on the day they run. */
export function lcg(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Asserts |analytic − numeric| ≤ tolerance · max(1, |numeric|) for every element of every parameter. */
export async function checkGradient(test: GradientCase): Promise<void> {
  const random = lcg(7);
  const graph = new Graph();
  const values: Record<string, Value> = {};
  const data: Record<string, Tensor & { data: Float32Array }> = {};
  for (const [name, { shape, low = -1, high = 1 }] of Object.entries(test.inputs)) {
    values[name] = graph.input(name, 'float32', shape, true);
    const size = shape.reduce((a, b) => a * b, 1);
    data[name] = { data: Float32Array.from({ length: size }, () => low + random() * (high - low)), shape };
  }
  for (const [name, tensor] of Object.entries(test.fixed ?? {})) {
    const dtype =
      tensor.data instanceof Float32Array ? 'float32' : tensor.data instanceof Int32Array ? 'int32' : 'int64';
    values[name] = graph.input(name, dtype, tensor.shape);
  }
  const y = test.build(graph, values);
  graph.output('y', y);
  const seed = graph.input('seed', 'float32', y.shape);
  const parameters = Object.keys(test.inputs).map((name) => values[name]!);
  const grads = gradients(graph, [{ value: y, gradient: seed }], parameters);
  grads.forEach((gradient, i) => {
    assert.deepEqual(gradient.shape, parameters[i]!.shape);
    graph.output(`d:${parameters[i]!.name}`, gradient);
  });
  const session = await Session.open(encodeModel(graph));
  try {
    const weights = Float32Array.from({ length: sizeOf(y) }, () => random() * 2 - 1);
    const feeds: Feeds = { ...data, ...test.fixed, seed: { data: weights, shape: y.shape as number[] } };
    const objective = async (): Promise<number> => {
      const out = (await session.run(feeds, {}, ['y']))['y']!.data as Float32Array;
      return out.reduce((sum, value, i) => sum + value * weights[i]!, 0);
    };
    const analytic = await session.run(feeds);
    const h = test.step ?? 1e-2;
    const tolerance = test.tolerance ?? 5e-3;
    for (const name of Object.keys(test.inputs)) {
      const x = data[name]!.data;
      const gradient = analytic[`d:${name}`]!.data as Float32Array;
      for (let i = 0; i < x.length; i += 1) {
        const kept = x[i]!;
        x[i] = kept + h;
        const above = await objective();
        x[i] = kept - h;
        const below = await objective();
        x[i] = kept;
        const numeric = (above - below) / (2 * h);
        const error = Math.abs(gradient[i]! - numeric) / Math.max(1, Math.abs(numeric));
        assert.ok(error <= tolerance, `d${name}[${i}]: analytic ${gradient[i]}, central difference ${numeric}`);
      }
    }
  } finally {
    await session.close();
  }
}
