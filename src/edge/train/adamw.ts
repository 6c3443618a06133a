// AdamW (Loshchilov & Hutter, arXiv 1711.05101) as graph operators, with global-norm clipping.
// Zone: edge. Parameters and moments are graph inputs; the caller passes the same buffers as outputs (in-place update).
// The moments are kept as plain decayed sums M = m/(1 − β₁), V = v/(1 − β₂): two passes over memory less per parameter.
import type { Graph, Value } from '../../graph/graph.js';
import { add, div, min, mul, sqrt, sub } from '../../graph/ops/elementwise.js';
import { reduceSumSquare } from '../../graph/ops/reduce.js';

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly weightDecay: number;
  /** Clip the gradient's global norm to this; 0: never. */
  readonly maxGradNorm: number;
}

/** Scalars that change with the step, fed at every run. */
export interface StepScalars {
  /** Update size lr·(1 − β₁)/(1 − β₁ᵗ)·√((1 − β₂ᵗ)/(1 − β₂)). */
  readonly stepSize: Value;
  /** ε·√((1 − β₂ᵗ)/(1 − β₂)). */
  readonly epsilon: Value;
  /** 1 − lr·weightDecay. */
  readonly decay: Value;
}

/** Declares the step scalars as graph inputs. */
export function stepScalars(graph: Graph): StepScalars {
  return {
    stepSize: graph.input('step_size', 'float32', []),
    epsilon: graph.input('epsilon', 'float32', []),
    decay: graph.input('decay', 'float32', []),
  };
}

/** Values for `stepScalars` at step t ≥ 1. */
export function stepScalarValues(
  t: number,
  learningRate: number,
  { beta1, beta2, epsilon, weightDecay }: { beta1: number; beta2: number; epsilon: number; weightDecay: number },
): { step_size: number; epsilon: number; decay: number } {
  const root = Math.sqrt((1 - beta2 ** t) / (1 - beta2));
  return {
    step_size: (learningRate * root * (1 - beta1)) / (1 - beta1 ** t),
    epsilon: epsilon * root,
    decay: 1 - learningRate * weightDecay,
  };
}

/** Only matrices decay; gains and biases do not (as in GPT-2 and its descendants). */
export function decays(shape: readonly number[]): boolean {
  return shape.length >= 2;
}

/**
 * Emits the update of every parameter as outputs `next:NAME`, `next_m:NAME`, `next_v:NAME`, and returns the global norm
 * of the gradients before clipping. All updates depend on that norm, hence on every gradient: no parameter can be
 * overwritten before the last operator that reads it has run, which is what makes in-place update safe.
 */
export function emitAdamW(
  graph: Graph,
  parameters: readonly { readonly name: string; readonly value: Value; readonly gradient: Value }[],
  scalars: StepScalars,
  { beta1, beta2, weightDecay, maxGradNorm }: AdamWOptions,
): Value {
  const squares = parameters.map(({ gradient }) => {
    const axes = gradient.shape.map((_, i) => i);
    return reduceSumSquare(graph, gradient, axes, false);
  });
  const norm = sqrt(graph, graph.emitOne('Sum', squares, { shape: [] }));
  const limit = maxGradNorm > 0 ? maxGradNorm : Number.MAX_VALUE;
  const one = graph.scalar(1);
  // min(1, limit/(norm + 1e-6)); with no limit this is 1 but keeps the dependency on the norm.
  const ratio = div(graph, graph.scalar(Math.min(limit, 3e38)), add(graph, norm, graph.scalar(1e-6)));
  const clip = min(graph, one, ratio);
  for (const { name, value, gradient } of parameters) {
    const m = graph.input(`m:${name}`, 'float32', value.shape);
    const v = graph.input(`v:${name}`, 'float32', value.shape);
    const clipped = mul(graph, gradient, clip);
    const nextM = add(graph, mul(graph, m, graph.scalar(beta1)), clipped);
    const nextV = add(graph, mul(graph, v, graph.scalar(beta2)), mul(graph, clipped, clipped));
    const direction = div(graph, nextM, add(graph, sqrt(graph, nextV), scalars.epsilon));
    const kept = weightDecay > 0 && decays(value.shape as number[]) ? mul(graph, value, scalars.decay) : value;
    graph.output(`next:${name}`, sub(graph, kept, mul(graph, direction, scalars.stepSize)));
    graph.output(`next_m:${name}`, nextM);
    graph.output(`next_v:${name}`, nextV);
  }
  return norm;
}
