// The untrusted accelerator: runs a teacher's segments. It sees locked ids, locked weights and locked outputs only.
// Zone: edge. DESIGN sections 4 and 9.
import { type Feeds, Session, type SessionOptions, type Tensor } from '../../graph/runtime.js';
import type { DecoderConfig } from '../../model/config.js';
import { rotaryFeeds } from '../../model/rope.js';
import { MalformedError } from '../../trusted/wire/errors.js';

/** A batch of right-padded rows: ids [batch, tokens], how many of each row are real. */
export interface TeacherBatch {
  readonly ids: Int32Array;
  readonly batch: number;
  readonly tokens: number;
  readonly lengths: readonly number[];
}

/** Keys and values of all tokens so far, one pair per block. */
export interface KeyValueCache {
  readonly length: number;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

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
  readonly #body: Session;
  readonly #head: Session;
  readonly #outputs: readonly string[];
  #tables: { feeds: Readonly<Record<string, Tensor>>; positions: number };

  private constructor(config: DecoderConfig, body: Session, head: Session) {
    this.config = config;
    this.#body = body;
    this.#head = head;
    this.#outputs = body.outputNames;
    this.#tables = this.#makeTables(512);
  }

  /** Loads a teacher's graphs: the body, then the head; weights beside them are memory-mapped. */
  static async open(
    graphs: readonly [body: string, head: string],
    config: DecoderConfig,
    options: SessionOptions = {},
  ): Promise<Accelerator> {
    // Two sessions and the enclave share the cores: threads that poll after their work would take time from the others.
    const settings = { ...options, spin: false };
    const body = await Session.open(graphs[0], settings);
    const head = await Session.open(graphs[1], settings);
    return new Accelerator(config, body, head);
  }

  /** Hidden states [batch·tokens, width] after the final norm; rows of padding are meaningless. */
  async hidden(batch: TeacherBatch): Promise<Float32Array> {
    const out = await this.#body.run(this.#feeds(batch, null), {}, ['hidden']);
    return out['hidden']!.data as Float32Array;
  }

  /** Hidden states of the new tokens of one sequence, and the cache grown by them. */
  async extend(ids: Int32Array, cache: KeyValueCache | null): Promise<{ hidden: Float32Array; cache: KeyValueCache }> {
    const batch = { ids, batch: 1, tokens: ids.length, lengths: [ids.length] };
    const out = await this.#body.run(this.#feeds(batch, cache), {}, this.#outputs);
    const tensors: Record<string, Tensor> = {};
    for (const [name, tensor] of Object.entries(out))
      if (name.startsWith('present_')) tensors[name.replace('present_', 'past_')] = tensor;
    return {
      hidden: out['hidden']!.data as Float32Array,
      cache: { length: (cache?.length ?? 0) + ids.length, tensors },
    };
  }

  /** Head over `rows` hidden states [rows, width]: log-softmax of logits/temperature, the k largest of each row. */
  async topK(hidden: Float32Array, rows: number, k: number, temperature: number): Promise<TopK> {
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
      await this.#head.run({ hidden: { data: part, shape: [n, width] }, inverse_temperature: inverse, k: count }, into);
    }
    return { rows, k, ids, logprobs };
  }

  async close(): Promise<void> {
    await this.#body.close();
    await this.#head.close();
  }

  #feeds(batch: TeacherBatch, cache: KeyValueCache | null): Feeds {
    const past = cache?.length ?? 0;
    const total = past + batch.tokens;
    const { positions, maxPositionEmbeddings } = this.config;
    if (positions === 'learned' && total > maxPositionEmbeddings) {
      throw new MalformedError(
        'positions-exceeded',
        `${total} tokens in a row, and the model has learned ${maxPositionEmbeddings} positions; use shorter texts (max_length).`,
        { tokens: total },
      );
    }
    if (total > this.#tables.positions) this.#tables = this.#makeTables(2 ** Math.ceil(Math.log2(total)));
    const feeds: Record<string, Tensor> = {
      input_ids: { data: batch.ids, shape: [batch.batch, batch.tokens] },
      seqlens_k: { data: Int32Array.from(batch.lengths, (length) => past + length - 1), shape: [batch.batch] },
      total_sequence_length: { data: Int32Array.of(total), shape: [] },
      ...this.#tables.feeds,
      ...cache?.tensors,
    };
    if (this.#body.inputNames.includes('position_ids')) {
      const positions = BigInt64Array.from(batch.ids, (_, i) => BigInt(past + (i % batch.tokens)));
      feeds['position_ids'] = { data: positions, shape: [batch.batch, batch.tokens] };
    }
    if (cache === null) {
      const { numHiddenLayers, numKeyValueHeads, headDim } = this.config;
      const empty = { data: new Float32Array(0), shape: [batch.batch, numKeyValueHeads, 0, headDim] };
      for (let i = 0; i < numHiddenLayers; i += 1) {
        feeds[`past_key_${i}`] = empty;
        feeds[`past_value_${i}`] = empty;
      }
    }
    return feeds;
  }

  #makeTables(positions: number): { feeds: Readonly<Record<string, Tensor>>; positions: number } {
    return { feeds: rotaryFeeds(this.config, positions), positions };
  }
}
