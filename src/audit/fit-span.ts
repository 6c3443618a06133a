// Learns an enclave-held span from what goes in and what comes out: same architecture, random start, squared error on the crossing.
// Zone: owner (as attacker). The paper's attackers train surrogates of layers; this is that, with the recorder's own pairs.
import type { Example } from '../edge/data/example.js';
import { RandomStream } from '../edge/data/random.js';
import { emitAdamW, stepScalars, stepScalarValues } from '../edge/train/adamw.js';
import { learningRateAt } from '../edge/train/schedule.js';
import type { Parameter, Student } from '../edge/train/student.js';
import { gradients } from '../graph/gradient.js';
import { Graph, type Value } from '../graph/graph.js';
import { encodeModel } from '../graph/onnx.js';
import { mul, sub } from '../graph/ops/elementwise.js';
import { reduceSumSquare } from '../graph/ops/reduce.js';
import { Session, type Tensor } from '../graph/runtime.js';
import type { DecoderConfig } from '../model/config.js';
import { decoderSpan } from '../model/decoder.js';
import type { Span } from '../model/spans.js';
import { TrainingLayers } from '../model/training-layers.js';
import { trainingData } from './fit-student.js';

/** What was recorded at the two sides of a span, text by text. */
export interface SpanPairs {
  readonly examples: readonly Example[];
  /** Hidden states [tokens, width] that go in; null where the span begins with the embedding. */
  readonly entry: readonly Float32Array[] | null;
  /** Hidden states [tokens, width] that come out. */
  readonly exit: readonly Float32Array[];
}

export interface FitSpanOptions {
  readonly steps: number;
  readonly learningRate: number;
  readonly seed: number;
}

const BATCH = 4;
const BETAS = { beta1: 0.9, beta2: 0.95, weightDecay: 0, maxGradNorm: 1 };

/** Fits the span's parameters of `student` in place. Returns the last error: mean squared distance as a share of the exit's mean square. */
export async function fitSpan(
  student: Student,
  span: Pick<Span, 'first' | 'end' | 'finalNorm'>,
  pairs: SpanPairs,
  { steps, learningRate, seed }: FitSpanOptions,
): Promise<number> {
  const { batches } = trainingData({ examples: pairs.examples, released: null }, BATCH, seed, true);
  const { rows, columns, batchesPerEpoch } = batches;
  const { graph, names } = spanGraph(student.config, span, rows, columns, pairs.entry !== null);
  const session = await Session.open(encodeModel(graph));
  const moments = new Map<string, [Parameter, Parameter]>();
  for (const name of names) {
    const { data, shape } = student.parameters.get(name)!;
    const zeros = (): Parameter => ({ data: new Float32Array(data.length), shape });
    moments.set(name, [zeros(), zeros()]);
  }
  const schedule = { learningRate, maxSteps: steps, warmupRatio: 0.05, type: 'cosine', minRatio: 0.02 } as const;
  let error = Number.NaN;
  try {
    for (let step = 0; step < steps; step += 1) {
      const batch = batches.batchAt(Math.floor(step / batchesPerEpoch), step % batchesPerEpoch);
      const feeds: Record<string, Tensor> = batchFeeds(batch, pairs, student.config.hiddenSize);
      const into: Record<string, Tensor> = {};
      const hyper = { ...BETAS, epsilon: 1e-8 };
      for (const [name, value] of Object.entries(stepScalarValues(step + 1, learningRateAt(step + 1, schedule), hyper)))
        feeds[name] = { data: Float32Array.of(value), shape: [] };
      for (const [name, [m, v]] of moments) {
        const parameter = student.parameters.get(name)!;
        Object.assign(feeds, { [name]: parameter, [`m:${name}`]: m, [`v:${name}`]: v });
        Object.assign(into, { [`next:${name}`]: parameter, [`next_m:${name}`]: m, [`next_v:${name}`]: v });
      }
      const wanted = Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
      const out = await session.run(wanted, into);
      error = (out['error']!.data as Float32Array)[0]!;
      if (!Number.isFinite(error)) throw new RangeError(`fitting a span diverged at step ${step + 1}`);
    }
  } finally {
    await session.close();
  }
  return error;
}

function spanGraph(
  config: DecoderConfig,
  span: Pick<Span, 'first' | 'end' | 'finalNorm'>,
  batch: number,
  tokens: number,
  fromHidden: boolean,
): { graph: Graph; names: string[] } {
  const graph = new Graph();
  const layers = new TrainingLayers(graph, config, { batch, tokens }, () => true);
  const shape = [batch * tokens, config.hiddenSize];
  const entry = fromHidden ? graph.input('entry', 'float32', shape) : null;
  const out = decoderSpan(layers, config, span, entry);
  // Zero in padding, 1/√(energy of the exit) elsewhere: the error is relative.
  const weight = graph.input('weight', 'float32', [batch * tokens, 1]);
  const difference = mul(graph, sub(graph, out, graph.input('exit', 'float32', shape)), weight);
  graph.output('error', reduceSumSquare(graph, difference, [0, 1], false));
  const gradient = mul(graph, mul(graph, difference, weight), graph.scalar(2));
  const named = [...layers.parameters];
  const values = named.map(([, value]): Value => value);
  const grads = gradients(graph, [{ value: out, gradient }], values);
  const parameters = named.map(([name, value], i) => ({ name, value, gradient: grads[i]! }));
  graph.output('grad_norm', emitAdamW(graph, parameters, stepScalars(graph), BETAS));
  return { graph, names: named.map(([name]) => name) };
}

type Batch = ReturnType<ReturnType<typeof trainingData>['batches']['batchAt']>;

function batchFeeds(batch: Batch, pairs: SpanPairs, width: number): Record<string, Tensor> {
  const { rows, columns } = batch;
  const shape = [rows * columns, width];
  const entry = new Float32Array(rows * columns * width);
  const exit = new Float32Array(rows * columns * width);
  const weight = new Float32Array(rows * columns);
  let energy = 0;
  for (const { example, row, offset, length } of batch.slots) {
    const at = row * columns + offset;
    exit.set(pairs.exit[example]!, at * width);
    if (pairs.entry !== null) entry.set(pairs.entry[example]!, at * width);
    weight.fill(1, at, at + length);
  }
  for (const x of exit) energy += x * x;
  const scale = 1 / Math.sqrt(energy);
  for (let i = 0; i < weight.length; i += 1) weight[i]! *= scale;
  const ids = [rows, columns];
  return {
    input_ids: { data: batch.inputIds, shape: ids },
    position_ids: { data: BigInt64Array.from(batch.positionIds, BigInt), shape: ids },
    segment_ids: { data: batch.segmentIds, shape: ids },
    entry: { data: entry, shape },
    exit: { data: exit, shape },
    weight: { data: weight, shape: [rows * columns, 1] },
  };
}

/** Random weights for blocks `first` … `end` − 1, so that they can be learned; gains stay. */
export function randomiseBlocks(student: Student, first: number, end: number, seed: number): void {
  for (const [name, { data, shape }] of student.parameters) {
    const block = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    if (block === undefined || Number(block) < first || Number(block) >= end || shape.length < 2) continue;
    const random = new RandomStream(`audit/${name}`, seed);
    const deviation = 0.5 / Math.sqrt(shape[1]!);
    for (let i = 0; i < data.length; i += 1) data[i] = deviation * random.normal();
  }
}
