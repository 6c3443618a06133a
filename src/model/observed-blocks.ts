// Runs one decoder block over calibration text, and observes what each of its linear layers reads: H = Σ x·xᵀ. Zone: owner, at lock time.
// The blocks are those of decoder.ts with weights as inputs; the sums of products are part of the graph.
import type { Graph, Value } from '../graph/graph.js';
import { type Feeds, Session, type Tensor } from '../graph/runtime.js';
import { type DecoderConfig, usesLocalRope } from './config.js';
import type { ForwardOptions } from './forward-layers.js';
import { rotaryTables } from './rope.js';
import { buildBlock, type StreamedGraph } from './streamed-graphs.js';
import type { SegmentWeight } from './weights.js';

/** Sequences of equal length: hidden states [sequences · tokens, width] of all of them. */
export interface CalibrationStream {
  readonly tokens: number;
  readonly hidden: Float32Array;
}

/** Gives a block's weights in float32, in the layout of the segment. */
export type BlockWeightOf = (weight: SegmentWeight) => Promise<Float32Array> | Float32Array;

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

  /** H [in, in] of each matrix of block `index`, by name; matrices that read the same have the same array. */
  async observe(index: number, weightOf: BlockWeightOf, stream: CalibrationStream): Promise<Map<string, Float32Array>> {
    const readers = new Map<Value, { readonly output: string; readonly names: string[] }>();
    const onProduct = (graph: Graph, x: Value, weight: SegmentWeight): void => {
      const known = readers.get(x);
      if (known !== undefined) {
        known.names.push(weight.name);
        return;
      }
      const output = `hessian_${readers.size}`;
      readers.set(x, { output, names: [weight.name] });
      graph.output(output, outerProducts(graph, x));
    };
    const block = buildBlock(this.#config, index, 'float32', { ...this.#options, onProduct });
    const outputs = [...readers.values()];
    const sums = new Map<string, Float32Array>();
    await this.#pass(
      index,
      block,
      weightOf,
      stream,
      outputs.map(({ output }) => output),
      (results) => {
        for (const { output } of outputs) {
          const part = results[output]!.data as Float32Array;
          const sum = sums.get(output);
          if (sum === undefined) sums.set(output, part.slice());
          else for (let i = 0; i < sum.length; i += 1) sum[i]! += part[i]!;
        }
      },
    );
    return new Map(outputs.flatMap(({ output, names }) => names.map((name) => [name, sums.get(output)!] as const)));
  }

  /** Hidden states after block `index`. */
  async run(index: number, weightOf: BlockWeightOf, stream: CalibrationStream): Promise<Float32Array> {
    const block = buildBlock(this.#config, index, 'float32', this.#options);
    const next = new Float32Array(stream.hidden.length);
    await this.#pass(index, block, weightOf, stream, ['next'], ({ next: part }, at) => {
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
    block: StreamedGraph,
    weightOf: BlockWeightOf,
    { tokens, hidden }: CalibrationStream,
    fetch: readonly string[],
    take: (results: Record<string, Tensor>, at: number) => void,
  ): Promise<void> {
    const { hiddenSize: width } = this.#config;
    const session = await this.#session(block.model);
    const weights: Record<string, Tensor> = {};
    for (const { weight, inputs } of block.weights)
      weights[inputs[0]!.name] = { data: await weightOf(weight), shape: weight.shape };
    const step = Math.max(1, Math.floor(tokensAtOnce / tokens)) * tokens * width;
    for (let at = 0; at < hidden.length; at += step) {
      const part = hidden.subarray(at, at + step);
      const batch = part.length / (tokens * width);
      const places = this.#places(session, index, batch, tokens);
      const entry = { data: part, shape: [batch, tokens, width] };
      take(await session.run({ hidden: entry, ...places, ...weights }, {}, fetch), at);
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

/** Σ x·xᵀ [in, in] over the rows of x [batch, tokens, in]. */
function outerProducts(graph: Graph, x: Value): Value {
  const size = x.shape.at(-1) as number;
  const rows = graph.emitOne('Reshape', [x, graph.int64s([-1, size])], { shape: ['rows', size] });
  const columns = graph.emitOne('Transpose', [rows], { shape: [size, 'rows'] }, { perm: [1, 0] });
  return graph.emitOne('MatMul', [columns, rows], { shape: [size, size] });
}
