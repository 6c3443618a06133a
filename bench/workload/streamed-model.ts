// A whole model run through its streamed graphs (src/model/streamed-graphs.ts): block by block over all tokens, then the head tile by tile.
// The yardstick and the test bed of those graphs: all weights lie in memory, nothing is sealed.
import { type Feeds, Session, type Tensor } from '../../src/graph/runtime.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { headTiles } from '../../src/model/head-tiles.js';
import { rotaryTables } from '../../src/model/rope.js';
import { storedTensors } from '../../src/model/stored-weight.js';
import {
  buildBlock,
  buildFinalNorm,
  buildHeadTile,
  type StreamedFormat,
  type StreamedGraph,
} from '../../src/model/streamed-graphs.js';
import type { SegmentWeight } from '../../src/model/weights.js';
import { TopKRows } from '../../src/trusted/enclave/top-k.js';

/** Gives a weight in the segment's layout: plain or locked. */
export type WeightOf = (weight: SegmentWeight) => Promise<Float32Array>;

export interface StreamedOptions {
  readonly format: StreamedFormat;
  /** Sequences that pass a block together; bounds the activations inside. */
  readonly groupSequences: number;
  /** Rows that pass a head tile together, and the columns of a tile. */
  readonly headRows: number;
  readonly tileColumns: number;
}

/** Keys and values of one block. */
export interface BlockCache {
  readonly key: Tensor;
  readonly value: Tensor;
}

interface LoadedTile {
  readonly start: number;
  readonly columns: number;
  readonly weights: Feeds;
}

export class StreamedModel {
  readonly #config: DecoderConfig;
  readonly #options: StreamedOptions;
  /** By the graph's bytes: blocks of one shape share a session. */
  readonly #sessions = new Map<string, Session>();
  readonly #blocks: { session: Session; weights: Feeds }[] = [];
  #norm!: { session: Session; weights: Feeds };
  #head!: Session;
  readonly #tiles: LoadedTile[] = [];
  #embedding!: Float32Array;

  private constructor(config: DecoderConfig, options: StreamedOptions) {
    this.#config = config;
    this.#options = options;
  }

  /** `table` [vocabulary, width] is the embedding. */
  static async open(
    config: DecoderConfig,
    table: Float32Array,
    weightOf: WeightOf,
    options: StreamedOptions,
  ): Promise<StreamedModel> {
    const model = new StreamedModel(config, options);
    const { format, tileColumns } = options;
    model.#embedding = table;
    for (let i = 0; i < config.numHiddenLayers; i += 1) {
      const block = buildBlock(config, i, format);
      model.#blocks.push({ session: await model.#session(block), weights: await fill(block, weightOf) });
    }
    const norm = buildFinalNorm(config);
    model.#norm = { session: await model.#session(norm), weights: await fill(norm, weightOf) };
    const head = buildHeadTile(config, format);
    model.#head = await model.#session(head);
    const { weight } = head.weights[0]!;
    const whole = await weightOf(weight);
    for (const { start, columns } of headTiles(config.vocabSize, tileColumns)) {
      const tile = cutColumns(whole, config.vocabSize, start, columns);
      model.#tiles.push({ start, columns, weights: tensorsOf(weight, tile, [config.hiddenSize, columns]) });
    }
    return model;
  }

  /** Residual [batch, tokens, width] of token ids [batch, tokens]. */
  embed(ids: Int32Array): Float32Array<ArrayBuffer> {
    const { hiddenSize } = this.#config;
    const out = new Float32Array(ids.length * hiddenSize);
    ids.forEach((id, i) => {
      out.set(this.#embedding.subarray(id * hiddenSize, (id + 1) * hiddenSize), i * hiddenSize);
    });
    return out;
  }

  /**
   * Passes `hidden` [batch, tokens, width] through block `index`, in place. With `caches`, one per group of sequences, tokens follow those
   * that are cached; gives the grown caches when `keepCache` is set.
   */
  async runBlock(
    index: number,
    hidden: Float32Array,
    batch: number,
    tokens: number,
    caches: readonly BlockCache[] | null = null,
    keepCache = false,
  ): Promise<BlockCache[]> {
    const { hiddenSize, numKeyValueHeads, headDim } = this.#config;
    const { session, weights } = this.#blocks[index]!;
    const fetch = keepCache ? ['next', 'present_key', 'present_value'] : ['next'];
    const grown: BlockCache[] = [];
    for (let first = 0; first < batch; first += this.#options.groupSequences) {
      const group = Math.min(this.#options.groupSequences, batch - first);
      const cached = caches?.[first / this.#options.groupSequences];
      const empty = { data: new Float32Array(0), shape: [group, numKeyValueHeads, 0, headDim] };
      const { key, value } = cached ?? { key: empty, value: empty };
      const shape = [group, tokens, hiddenSize];
      const data = hidden.subarray(first * tokens * hiddenSize, (first + group) * tokens * hiddenSize);
      const feeds = { ...weights, ...this.#positions(session, group, key.shape[2]!, tokens) };
      const into = { next: { data, shape } };
      const out = await session.run(
        { ...feeds, hidden: { data, shape }, past_key: key, past_value: value },
        into,
        fetch,
      );
      if (keepCache) grown.push({ key: out['present_key']!, value: out['present_value']! });
    }
    return grown;
  }

  /** The k largest log-probabilities of every row of the last block's output. */
  async topK(
    hidden: Float32Array,
    rows: number,
    k: number,
    temperature: number,
  ): Promise<{ readonly ids: Int32Array; readonly logprobs: Float32Array }> {
    const { hiddenSize: width } = this.#config;
    const step = this.#options.headRows;
    const parts: Feeds[] = [];
    for (let first = 0; first < rows; first += step) {
      const n = Math.min(step, rows - first);
      const data = hidden.subarray(first * width, (first + n) * width);
      const out = await this.#norm.session.run({ ...this.#norm.weights, hidden: { data, shape: [n, width] } });
      parts.push({ hidden: out['mapped']! });
    }
    const top = new TopKRows(rows, k);
    const inverse = { data: Float32Array.of(1 / temperature), shape: [] };
    for (const { start, columns, weights } of this.#tiles) {
      const count = { data: BigInt64Array.of(BigInt(Math.min(k, columns))), shape: [1] };
      for (const [i, part] of parts.entries()) {
        const out = await this.#head.run({ ...weights, ...part, inverse_temperature: inverse, k: count });
        const [logits, ids, logSums] = ['top_logits', 'top_ids', 'log_sums'].map((name) => out[name]!.data);
        const tile = { logits: logits as Float32Array, ids: ids as Int32Array, logSums: logSums as Float32Array };
        top.add(tile, i * step, start);
      }
    }
    return top.finish();
  }

  /** Embedding, every block and the head for ids [batch, tokens]. */
  async run(
    ids: Int32Array,
    batch: number,
    tokens: number,
    k: number,
  ): Promise<{ ids: Int32Array; logprobs: Float32Array }> {
    const hidden = this.embed(ids);
    for (let i = 0; i < this.#config.numHiddenLayers; i += 1) await this.runBlock(i, hidden, batch, tokens);
    return this.topK(hidden, batch * tokens, k, 1);
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await session.close();
  }

  async #session({ model }: StreamedGraph): Promise<Session> {
    const key = Buffer.from(model).toString('base64');
    const session = this.#sessions.get(key) ?? (await Session.open(model, { spin: false }));
    this.#sessions.set(key, session);
    return session;
  }

  #positions(session: Session, batch: number, past: number, tokens: number): Feeds {
    const { cos, sin } = rotaryTables(this.#config, past + tokens);
    const shape = [past + tokens, this.#config.headDim / 2];
    const feeds: Record<string, Tensor> = {
      seqlens_k: { data: new Int32Array(batch).fill(past + tokens - 1), shape: [batch] },
      total_sequence_length: { data: Int32Array.of(past + tokens), shape: [] },
      rope_cos: { data: cos, shape },
      rope_sin: { data: sin, shape },
    };
    if (session.inputNames.includes('position_ids')) {
      const positions = BigInt64Array.from({ length: batch * tokens }, (_, i) => BigInt(past + (i % tokens)));
      feeds['position_ids'] = { data: positions, shape: [batch, tokens] };
    }
    return feeds;
  }
}

async function fill(graph: StreamedGraph, weightOf: WeightOf): Promise<Feeds> {
  const feeds: Record<string, Tensor> = {};
  for (const { weight, inputs } of graph.weights) {
    const tensors = Object.values(tensorsOf(weight, await weightOf(weight), weight.shape));
    inputs.forEach(({ name }, i) => {
      feeds[name] = tensors[i]!;
    });
  }
  return feeds;
}

/** The tensors that a weight is stored as, by name. */
function tensorsOf(weight: SegmentWeight, data: Float32Array, shape: readonly number[]): Feeds {
  return Object.fromEntries(storedTensors({ ...weight, shape }, data).map((stored) => [stored.name, stored]));
}

function cutColumns(matrix: Float32Array, stride: number, start: number, columns: number): Float32Array {
  const rows = matrix.length / stride;
  const out = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i += 1)
    out.set(matrix.subarray(i * stride + start, i * stride + start + columns), i * columns);
  return out;
}
