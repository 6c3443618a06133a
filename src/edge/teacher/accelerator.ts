// The untrusted accelerator: runs the segments of a teacher that lie on it. It sees locked ids, locked weights and locked outputs only.
// Zone: edge. DESIGN sections 4 and 9.
import { stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { type Feeds, Session, type SessionOptions, type Tensor } from '../../graph/runtime.js';
import type { DecoderConfig } from '../../model/config.js';
import { rotaryFeeds } from '../../model/rope.js';
import type { Place } from '../../trusted/wire/manifest.js';

/** A segment of a plan, in order; the last is the head. Enclave-held ones are not loaded here. */
export type RunnableSegment = { readonly place: 'accelerator'; readonly graph: string } | { readonly place: 'enclave' };

/** A batch of right-padded rows: how many tokens of each row are real, and the longest. */
export interface BatchLayout {
  readonly batch: number;
  readonly tokens: number;
  readonly lengths: readonly number[];
}

/** Keys and values of all tokens so far, for the blocks on the accelerator. */
export interface KeyValueCache {
  readonly length: number;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/** What goes into a segment: ids [batch × tokens] where it embeds, else hidden states [batch × tokens, width]. */
export type SegmentInput = Int32Array | Float32Array;

/** The k largest log-probabilities of each row, in the vocabulary of the head (locked, for a locked teacher). */
export interface TopK {
  readonly rows: number;
  readonly k: number;
  /** [rows, k], by falling log-probability. */
  readonly ids: Int32Array;
  readonly logprobs: Float32Array;
}

// Rows whose logits exist at once: enough to keep the product efficient, few enough to stay near the caches.
export const headRows: number = 128;

export class Accelerator {
  readonly config: DecoderConfig;
  /** Where each segment lies, the head last. */
  readonly places: readonly Place[];
  readonly #sessions: readonly (Session | null)[];
  #tables: { feeds: Readonly<Record<string, Tensor>>; positions: number };

  private constructor(config: DecoderConfig, places: readonly Place[], sessions: readonly (Session | null)[]) {
    this.config = config;
    this.places = places;
    this.#sessions = sessions;
    this.#tables = this.#makeTables(512);
  }

  /**
   * Loads the graphs of a plan's accelerator segments; weights beside them are memory-mapped. They stay in the mapped files, a bit
   * slower, when a copy would take more than half of the machine's memory.
   */
  static async open(
    segments: readonly RunnableSegment[],
    config: DecoderConfig,
    options: SessionOptions = {},
  ): Promise<Accelerator> {
    // Several sessions and the enclave share the cores: threads that poll after their work would take time from the others.
    const graphs = segments.flatMap((segment) => (segment.place === 'accelerator' ? [segment.graph] : []));
    const settings = { prepack: await fitsInMemory(graphs), ...options, spin: false };
    const sessions: (Session | null)[] = [];
    for (const segment of segments)
      sessions.push(segment.place === 'enclave' ? null : await Session.open(segment.graph, settings));
    return new Accelerator(
      config,
      segments.map(({ place }) => place),
      sessions,
    );
  }

  /** A body segment without a cache: hidden states [batch × tokens, width]; rows of padding are meaningless. */
  async run(segment: number, input: SegmentInput, layout: BatchLayout): Promise<Float32Array> {
    const session = this.#session(segment);
    const out = await session.run(this.#feeds(session, input, layout, null), {}, ['hidden']);
    return out['hidden']!.data as Float32Array;
  }

  /** A body segment over the new tokens of one sequence: their hidden states, and this segment's part of the longer cache. */
  async extend(
    segment: number,
    input: SegmentInput,
    tokens: number,
    cache: KeyValueCache,
  ): Promise<{ hidden: Float32Array; grown: Readonly<Record<string, Tensor>> }> {
    const session = this.#session(segment);
    const out = await session.run(this.#feeds(session, input, { batch: 1, tokens, lengths: [tokens] }, cache));
    const grown: Record<string, Tensor> = {};
    for (const [name, tensor] of Object.entries(out))
      if (name.startsWith('present_')) grown[name.replace('present_', 'past_')] = tensor;
    return { hidden: out['hidden']!.data as Float32Array, grown };
  }

  /** Head over `rows` hidden states [rows, width]: log-softmax of logits/temperature, the k largest of each row. */
  async topK(hidden: Float32Array, rows: number, k: number, temperature: number): Promise<TopK> {
    const head = this.#session(this.#sessions.length - 1);
    const width = this.config.hiddenSize;
    const ids = new Int32Array(rows * k);
    const logprobs = new Float32Array(rows * k);
    const inverse = { data: Float32Array.of(1 / temperature), shape: [] };
    const count = { data: BigInt64Array.of(BigInt(k)), shape: [1] };
    for (let start = 0; start < rows; start += headRows) {
      const n = Math.min(headRows, rows - start);
      const part = hidden.subarray(start * width, (start + n) * width);
      const at = start * k;
      const into: Feeds = {
        topk_ids: { data: ids.subarray(at, at + n * k), shape: [n, k] },
        topk_logprobs: { data: logprobs.subarray(at, at + n * k), shape: [n, k] },
      };
      await head.run({ hidden: { data: part, shape: [n, width] }, inverse_temperature: inverse, k: count }, into);
    }
    return { rows, k, ids, logprobs };
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) await session?.close();
  }

  #session(segment: number): Session {
    const session = this.#sessions[segment];
    if (!session) throw new RangeError(`segment ${segment} is not on the accelerator`);
    return session;
  }

  #feeds(session: Session, input: SegmentInput, layout: BatchLayout, cache: KeyValueCache | null): Feeds {
    const { batch, tokens, lengths } = layout;
    const past = cache?.length ?? 0;
    const total = past + tokens;
    if (total > this.#tables.positions) this.#tables = this.#makeTables(2 ** Math.ceil(Math.log2(total)));
    const feeds: Record<string, Tensor> = {
      seqlens_k: { data: Int32Array.from(lengths, (length) => past + length - 1), shape: [batch] },
      total_sequence_length: { data: Int32Array.of(total), shape: [] },
      ...this.#tables.feeds,
    };
    if (input instanceof Int32Array) feeds['input_ids'] = { data: input, shape: [batch, tokens] };
    else feeds['hidden_in'] = { data: input, shape: [batch, tokens, this.config.hiddenSize] };
    const { numKeyValueHeads, headDim } = this.config;
    const empty = { data: new Float32Array(0), shape: [batch, numKeyValueHeads, 0, headDim] };
    for (const name of session.inputNames) if (name.startsWith('past_')) feeds[name] = cache?.tensors[name] ?? empty;
    if (session.inputNames.includes('position_ids')) {
      const positions = BigInt64Array.from({ length: batch * tokens }, (_, i) => BigInt(past + (i % tokens)));
      feeds['position_ids'] = { data: positions, shape: [batch, tokens] };
    }
    // A segment without blocks (the embedding alone) takes none of what attention needs.
    return Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
  }

  #makeTables(positions: number): { feeds: Readonly<Record<string, Tensor>>; positions: number } {
    return { feeds: rotaryFeeds(this.config, positions), positions };
  }
}

async function fitsInMemory(graphs: readonly string[]): Promise<boolean> {
  const sizes = graphs.map(async (graph) => (await stat(graph.replace(/onnx$/, 'data')).catch(() => null))?.size ?? 0);
  return (await Promise.all(sizes)).reduce((a, b) => a + b, 0) <= totalmem() / 2;
}
