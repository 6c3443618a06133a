// Runs one decoder block over calibration text, and observes what its linear layers read: in the model as it was, and behind everything that
// is quantised already. Zone: owner, at lock time. The blocks are those of decoder.ts with weights as inputs; the sums of products are
// part of the graph.
import type { Graph, Value } from '../graph/graph.js';
import { type Feeds, Session, type Tensor } from '../graph/runtime.js';
import { type DecoderConfig, usesLocalRope } from './config.js';
import type { ForwardOptions } from './forward-layers.js';
import { rotaryTables } from './rope.js';
import { buildBlock, buildReader, type StreamedGraph } from './streamed-graphs.js';
import type { SegmentWeight } from './weights.js';

/** A model at one block: its weights in float32, in the layout of the segment, and what comes in. */
export interface CalibrationStream {
  weightOf(weight: SegmentWeight): Promise<Float32Array> | Float32Array;
  /** Length of every sequence. */
  readonly tokens: number;
  /** [sequences · tokens, width]. */
  readonly hidden: Float32Array;
}

/** With x what a layer reads and x⁰ what it read in the model as it was, over all tokens; both [in, in]. */
export interface ObservedInput {
  /** Σ x·xᵀ */
  readonly hessian: Float32Array;
  /** Σ x·(x⁰ − x)ᵀ */
  readonly shift: Float32Array;
}

/** Tokens that pass through a block at once. */
const tokensAtOnce = 4096;

export class ObservedBlocks {
  readonly #config: DecoderConfig;
  readonly #options: Omit<ForwardOptions, 'format'>;
  /** Of each graph with other bytes; blocks of one kind share theirs. */
  readonly #sessions = new Map<string, Promise<Session>>();

  constructor(config: DecoderConfig, options: Omit<ForwardOptions, 'format'>) {
    this.#config = config;
    this.#options = options;
  }

  /** The weights of block `index`. */
  weightsOf(index: number): SegmentWeight[] {
    return buildBlock(this.#config, index, 'float32', this.#options).weights.map(({ weight }) => weight);
  }

  /** The matrices of block `index` by what they read, in the order of the computation. */
  readersOf(index: number): SegmentWeight[][] {
    const readers = new Map<Value, SegmentWeight[]>();
    const onProduct = (_: Graph, x: Value, weight: SegmentWeight): void => {
      readers.set(x, [...(readers.get(x) ?? []), weight]);
    };
    buildBlock(this.#config, index, 'float32', { ...this.#options, onProduct });
    return [...readers.values()];
  }

  /** What `matrix` of block `index` reads. */
  async observe(
    index: number,
    matrix: SegmentWeight,
    stream: CalibrationStream,
    original: CalibrationStream,
  ): Promise<ObservedInput> {
    const reads = buildReader(this.#config, index, matrix.name, this.#options, (graph, x) => graph.output('read', x));
    const sums = buildReader(this.#config, index, matrix.name, this.#options, outputSums);
    const size = matrix.shape[0]!;
    const found = { hessian: new Float32Array(size * size), shift: new Float32Array(size * size) };
    await this.#pass(index, reads, original, ['read'], async ({ read }, at) => {
      const { data } = read!;
      const feeds = { original: { data, shape: [data.length / size, size] } };
      const end = at + (data.length / size) * this.#config.hiddenSize;
      const same = { ...stream, hidden: stream.hidden.subarray(at, end) };
      const take = ({ hessian, shift }: Record<string, Tensor>): void => {
        add(found.hessian, hessian!.data as Float32Array);
        add(found.shift, shift!.data as Float32Array);
      };
      await this.#pass(index, sums, same, ['hessian', 'shift'], take, feeds);
    });
    return found;
  }

  /** Hidden states after block `index`. */
  async run(index: number, stream: CalibrationStream): Promise<Float32Array> {
    const block = buildBlock(this.#config, index, 'float32', this.#options);
    const next = new Float32Array(stream.hidden.length);
    await this.#pass(index, block, stream, ['next'], ({ next: part }, at) => {
      next.set(part!.data as Float32Array, at);
    });
    return next;
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await (await session).close();
    this.#sessions.clear();
  }

  async #pass(
    index: number,
    graph: StreamedGraph,
    { weightOf, tokens, hidden }: CalibrationStream,
    fetch: readonly string[],
    take: (results: Record<string, Tensor>, at: number) => Promise<void> | void,
    further: Feeds = {},
  ): Promise<void> {
    const { hiddenSize: width } = this.#config;
    const session = await this.#session(graph.model);
    const weights: Record<string, Tensor> = {};
    for (const { weight, inputs } of graph.weights) {
      const name = inputs[0]?.name ?? '';
      if (session.inputNames.includes(name)) weights[name] = { data: await weightOf(weight), shape: weight.shape };
    }
    const step = Math.max(1, Math.floor(tokensAtOnce / tokens)) * tokens * width;
    for (let at = 0; at < hidden.length; at += step) {
      const part = hidden.subarray(at, at + step);
      const batch = part.length / (tokens * width);
      const places = this.#places(session, index, batch, tokens);
      const entry = { data: part, shape: [batch, tokens, width] };
      await take(await session.run({ hidden: entry, ...places, ...weights, ...further }, {}, fetch), at);
    }
  }

  #places(session: Session, index: number, batch: number, tokens: number): Feeds {
    const { numKeyValueHeads, headDim, positions } = this.#config;
    const empty = { data: new Float32Array(0), shape: [batch, numKeyValueHeads, 0, headDim] };
    const feeds: Record<string, Tensor> = {
      seqlens_k: { data: new Int32Array(batch).fill(tokens - 1), shape: [batch] },
      total_sequence_length: { data: Int32Array.of(tokens), shape: [] },
      past_key: empty,
      past_value: empty,
    };
    if (positions === 'rope') {
      const tables = rotaryTables(this.#config, tokens, usesLocalRope(this.#config, index) ? 'local' : 'global');
      feeds['rope_cos'] = { data: tables.cos, shape: [tokens, headDim / 2] };
      feeds['rope_sin'] = { data: tables.sin, shape: [tokens, headDim / 2] };
    }
    const ids = BigInt64Array.from({ length: batch * tokens }, (_, i) => BigInt(i % tokens));
    feeds['position_ids'] = { data: ids, shape: [batch, tokens] };
    return Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
  }

  #session(model: Uint8Array): Promise<Session> {
    const key = Buffer.from(model).toString('latin1');
    const session = this.#sessions.get(key) ?? Session.open(model, { spin: false });
    this.#sessions.set(key, session);
    return session;
  }
}

function outputSums(graph: Graph, x: Value): void {
  const size = x.shape.at(-1) as number;
  const original = graph.input('original', 'float32', ['rows', size]);
  const rows = graph.emitOne('Reshape', [x, graph.int64s([-1, size])], { shape: ['rows', size] });
  const columns = graph.emitOne('Transpose', [rows], { shape: [size, 'rows'] }, { perm: [1, 0] });
  const lost = graph.emitOne('Sub', [original, rows], { shape: ['rows', size] });
  graph.output('hessian', graph.emitOne('MatMul', [columns, rows], { shape: [size, size] }));
  graph.output('shift', graph.emitOne('MatMul', [columns, lost], { shape: [size, size] }));
}

function add(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < sum.length; i += 1) sum[i]! += part[i]!;
}
