// A few rows with a head and a teacher: the loss graph run on them, and the same in float64 from the definitions. Not a test itself.
import { Graph } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import type { LossName } from '../../src/graph/ops/divergence.js';
import { distillationLoss, type LossOptions } from '../../src/graph/ops/loss.js';
import { type Feeds, Session } from '../../src/graph/runtime.js';
import { lcg } from './check-gradient.js';

export interface LossShape {
  readonly rows: number;
  readonly width: number;
  readonly vocabulary: number;
  readonly k: number;
}

export interface LossCase extends LossShape {
  readonly hidden: Float64Array;
  readonly weight: Float64Array;
  readonly labels: Int32Array;
  readonly rowWeight: Float64Array;
  readonly ids: Int32Array;
  readonly logprobs: Float64Array;
  readonly tail: Float64Array;
}

export function logSoftmax(z: readonly number[]): number[] {
  const top = Math.max(...z);
  const norm = top + Math.log(z.reduce((sum, x) => sum + Math.exp(x - top), 0));
  return z.map((x) => x - norm);
}

/** The student's logits of a row. */
export function logitsOf({ hidden, weight, width, vocabulary }: LossCase, row: number): number[] {
  return Array.from({ length: vocabulary }, (_, v) => {
    let sum = 0;
    for (let d = 0; d < width; d += 1) sum += hidden[row * width + d]! * weight[v * width + d]!;
    return sum;
  });
}

/** Teacher and student of a row over its k + 1 buckets, the tail last; the student's tail is summed, not subtracted. */
export function bucketsOf(c: LossCase, row: number, temperature: number): { p: number[]; q: number[] } {
  const soft = logSoftmax(logitsOf(c, row).map((z) => z / temperature)).map(Math.exp);
  const top = [...c.ids.subarray(row * c.k, (row + 1) * c.k)];
  const outside = soft.reduce((sum, q, v) => (top.includes(v) ? sum : sum + q), 0);
  const logp = [...c.logprobs.subarray(row * c.k, (row + 1) * c.k), c.tail[row]!];
  return { p: logp.map(Math.exp), q: [...top.map((v) => soft[v]!), outside] };
}

function kl(p: readonly number[], q: readonly number[]): number {
  return p.reduce((sum, pi, i) => (pi === 0 ? sum : sum + pi * Math.log(pi / q[i]!)), 0);
}

function mixture(p: readonly number[], q: readonly number[], ofP: number): number[] {
  return p.map((pi, i) => ofP * pi + (1 - ofP) * q[i]!);
}

/** The definitions, from the papers; `x` is beta or skew_alpha. */
export const DEFINITIONS: Readonly<Record<LossName, (p: number[], q: number[], x: number) => number>> = {
  forward_kl: (p, q) => kl(p, q),
  reverse_kl: (p, q) => kl(q, p),
  jsd: (p, q, beta) => {
    if (beta === 0) return kl(p, q);
    if (beta === 1) return kl(q, p);
    const m = mixture(p, q, beta);
    return beta * kl(p, m) + (1 - beta) * kl(q, m);
  },
  skew_kl: (p, q, alpha) => kl(p, mixture(p, q, alpha)),
  skew_reverse_kl: (p, q, alpha) => kl(q, mixture(p, q, 1 - alpha)),
  tvd: (p, q) => p.reduce((sum, pi, i) => sum + Math.abs(pi - q[i]!) / 2, 0),
};

/** Every divergence with the parameters it is tested at. */
export const TESTED: readonly (readonly [name: LossName, parameter: number | undefined])[] = [
  ['forward_kl', undefined],
  ['reverse_kl', undefined],
  ['jsd', 0],
  ['jsd', 0.1],
  ['jsd', 0.5],
  ['jsd', 0.9],
  ['jsd', 1],
  ['skew_kl', 0.1],
  ['skew_kl', 0.7],
  ['skew_reverse_kl', 0.1],
  ['skew_reverse_kl', 0.7],
  ['tvd', undefined],
];

export interface ReferenceOptions {
  readonly loss: LossName;
  readonly parameter?: number | undefined;
  readonly kdRatio: number;
  readonly temperature: number;
}

/** Divergence, cross-entropy and mixed loss in float64. */
export function reference(c: LossCase, options: ReferenceOptions): { kd: number; ce: number; loss: number } {
  const { loss, parameter, kdRatio, temperature } = options;
  let kd = 0;
  let ce = 0;
  for (let row = 0; row < c.rows; row += 1) {
    const { p, q } = bucketsOf(c, row, temperature);
    ce -= c.rowWeight[row]! * logSoftmax(logitsOf(c, row))[c.labels[row]!]!;
    kd += c.rowWeight[row]! * DEFINITIONS[loss](p, q, parameter ?? Number.NaN);
  }
  return { kd, ce, loss: (1 - kdRatio) * ce + kdRatio * temperature ** 2 * kd };
}

/** Four rows, one of which does not count; of row 0 the label is among the teacher's top-k, of row 1 it is not. */
export function someCase(): LossCase {
  const shape = { rows: 4, width: 3, vocabulary: 7, k: 3 };
  const random = lcg(3);
  const fill = (n: number, scale: number): Float64Array =>
    Float64Array.from({ length: n }, () => Math.fround((random() - 0.5) * scale));
  const logprobs = new Float64Array(shape.rows * shape.k);
  const tail = new Float64Array(shape.rows);
  for (let r = 0; r < shape.rows; r += 1) {
    const z = logSoftmax(Array.from({ length: shape.k + 1 }, () => random() * 3));
    for (let i = 0; i < shape.k; i += 1) logprobs[r * shape.k + i] = Math.fround(z[i]!);
    tail[r] = Math.fround(z[shape.k]!);
  }
  return {
    ...shape,
    hidden: fill(shape.rows * shape.width, 3),
    weight: fill(shape.vocabulary * shape.width, 3),
    labels: Int32Array.of(0, 5, 2, 6),
    rowWeight: Float64Array.of(1 / 3, 1 / 3, 0, 1 / 3).map(Math.fround),
    ids: Int32Array.of(0, 3, 6, 1, 2, 4, 0, 1, 2, 4, 3, 6),
    logprobs,
    tail,
  };
}

/** One row whose logits are `student`, with the k largest of `teacher` (all logits) and the rest as its targets. */
export function caseOf(student: readonly number[], teacher: readonly number[], k: number, temperature = 1): LossCase {
  const vocabulary = student.length;
  const own = logSoftmax(teacher.map((z) => z / temperature));
  const order = own.map((_, v) => v).sort((a, b) => own[b]! - own[a]! || a - b);
  const rest = order.slice(k).reduce((sum, v) => sum + Math.exp(own[v]!), 0);
  const weight = new Float64Array(vocabulary * vocabulary);
  for (let v = 0; v < vocabulary; v += 1) weight[v * vocabulary + v] = 1;
  return {
    ...{ rows: 1, width: vocabulary, vocabulary, k },
    hidden: Float64Array.from(student),
    weight,
    labels: Int32Array.of(0),
    rowWeight: Float64Array.of(1),
    ids: Int32Array.from(order.slice(0, k)),
    logprobs: Float64Array.from(order.slice(0, k), (v) => own[v]!),
    tail: Float64Array.of(Math.log(rest)),
  };
}

export interface LossResult {
  readonly kd: number;
  readonly ce: number;
  readonly dHidden: Float32Array;
  readonly dWeight: Float32Array;
}

export interface OpenLoss {
  run(c: LossCase): Promise<LossResult>;
  close(): Promise<void>;
}

/** The loss alone as a graph over inputs of the case's names. */
export function lossGraph(
  { rows, width, vocabulary, k }: LossShape,
  options: LossOptions,
  graph: Graph = new Graph(),
): Graph {
  const inputs = {
    hidden: graph.input('hidden', 'float32', [rows, width], true),
    weight: graph.input('weight', 'float32', [vocabulary, width], true),
    labels: graph.input('labels', 'int32', [rows, 1]),
    rowWeight: graph.input('rowWeight', 'float32', [rows, 1]),
    teacher: {
      ids: graph.input('ids', 'int32', [rows, k]),
      logprobs: graph.input('logprobs', 'float32', [rows, k]),
      tail: graph.input('tail', 'float32', [rows, 1]),
    },
  };
  for (const [name, value] of Object.entries(distillationLoss(graph, inputs, options))) graph.output(name, value);
  return graph;
}

/** A session for cases of one shape. */
export async function openLoss(shape: LossShape, options: LossOptions): Promise<OpenLoss> {
  const session = await Session.open(encodeModel(lossGraph(shape, options)), { threads: 1 });
  const { rows, width, vocabulary, k } = shape;
  return {
    async run(c) {
      const feeds: Feeds = {
        hidden: { data: Float32Array.from(c.hidden), shape: [rows, width] },
        weight: { data: Float32Array.from(c.weight), shape: [vocabulary, width] },
        labels: { data: c.labels, shape: [rows, 1] },
        rowWeight: { data: Float32Array.from(c.rowWeight), shape: [rows, 1] },
        ids: { data: c.ids, shape: [rows, k] },
        logprobs: { data: Float32Array.from(c.logprobs), shape: [rows, k] },
        tail: { data: Float32Array.from(c.tail), shape: [rows, 1] },
      };
      const used = Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
      const out = await session.run(used);
      const [kd, ce, dHidden, dWeight] = ['kd', 'ce', 'dHidden', 'dWeight'].map(
        (name) => out[name]!.data as Float32Array,
      ) as [Float32Array, Float32Array, Float32Array, Float32Array];
      return { kd: kd[0]!, ce: ce[0]!, dHidden, dWeight };
    },
    close: () => session.close(),
  };
}
