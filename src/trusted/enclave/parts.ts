// Runs the parts that the enclave holds: pieces are read, checked and decrypted as they are needed, or kept where memory allows,
// and a batch goes through block by block, so that trusted memory is a block, the batch and one group's activations, not the model.
// Zone: trusted. DESIGN section 4. The enclave builds no graph: the owner sealed them at lock time.
import {
  decodeIndex,
  openPiece,
  type PiecePlace,
  readDirectory,
  type SealedTensor,
  type Stage,
  segmentKey,
} from '../lock/sealed-segment.js';
import { MAX_SEALED_INDEX_BYTES } from '../wire/limits.js';
import type { Manifest } from '../wire/manifest.js';
import type { LoadedGraph, PlatformPort, PortTensor } from './port.js';
import { refuse } from './refuse.js';
import { TopKRows } from './top-k.js';

/** Right-padded rows: token t of row r is real when t < lengths[r]; `tokens` is the longest. */
export interface Layout {
  readonly lengths: Int32Array;
  readonly tokens: number;
  /** Null for rows that are complete; otherwise there is one row, and `past` of its tokens are in the cache. */
  readonly cache: BlockCache | null;
  readonly past: number;
}

/** What parts need of the platform. */
export type PartsPort = Pick<PlatformPort, 'memoryBytes' | 'readBundle' | 'loadGraph'>;

type TopRows = ReturnType<TopKRows['finish']>;

/** Keys and values of one block so far, each [1, kvHeads, past, headDim]. */
export type BlockCache = Map<number, readonly [PortTensor, PortTensor]>;

type Block = Extract<Stage, { kind: 'block' }>;
type Head = Extract<Stage, { kind: 'head' }>;
type Embed = Extract<Stage, { kind: 'embed' }>;

interface Segment {
  readonly stages: readonly Stage[];
  read(piece: number, into?: Uint8Array): Uint8Array;
}

/** Tokens of one block run at most: more gain nothing. */
const MAX_GROUP_TOKENS = 2048;
/** Rows of one head run: their logits of a tile exist at once. */
const HEAD_ROWS = 256;
const VIEWS = { float32: Float32Array, uint8: Uint8Array } as const;

const elements = (shape: readonly number[]): number => shape.reduce((product, length) => product * length, 1);
const bytesOf = ({ shape, type }: SealedTensor): number => elements(shape) * VIEWS[type].BYTES_PER_ELEMENT;

function tensorsOf(stage: Stage): readonly SealedTensor[] {
  if (stage.kind === 'embed') return stage.positions === null ? stage.tiles : [...stage.tiles, stage.positions];
  return stage.kind === 'head' ? stage.tiles.flatMap((tile) => tile.weights) : stage.weights;
}

const rotary: WeakMap<readonly number[], readonly [PortTensor, PortTensor]> = new WeakMap();

/** cos and sin of position·frequency, each [positions or more, pairs]; kept, since every token of a text needs them again. */
function rotaryTables(frequencies: readonly number[], positions: number): readonly [PortTensor, PortTensor] {
  const known = rotary.get(frequencies);
  if (known !== undefined && known[0].shape[0]! >= positions) return known;
  const angle = (i: number): number => Math.floor(i / frequencies.length) * frequencies[i % frequencies.length]!;
  const shape = [2 ** Math.ceil(Math.log2(positions)), frequencies.length];
  const table = (of: (angle: number) => number): PortTensor => {
    return { data: Float32Array.from({ length: elements(shape) }, (_, i) => of(angle(i))), shape };
  };
  rotary.set(frequencies, [table(Math.cos), table(Math.sin)]);
  return rotary.get(frequencies)!;
}

export class EnclaveParts {
  readonly #port: PartsPort;
  readonly #manifest: Manifest;
  readonly #bundleKey: Uint8Array;
  readonly #segments: Map<number, Segment> = new Map();
  readonly #graphs: Map<string, Promise<LoadedGraph>> = new Map();
  readonly #kept: Map<string, PortTensor> = new Map();
  /** Where streamed weights of one stage are decrypted to, again and again. */
  #streamed: ArrayBuffer = new ArrayBuffer(0);
  /** Hidden states that nobody needs any more, for a batch of the same size. */
  #spare: Float32Array | null = null;
  #residentBytes: number | null = null;

  constructor(port: PartsPort, manifest: Manifest, bundleKey: Uint8Array) {
    this.#port = port;
    this.#manifest = manifest;
    this.#bundleKey = bundleKey.slice();
  }

  /**
   * Ids [rows × tokens], padded with any token → hidden [rows × tokens, width], through the first segment.
   * Refuses `positions-exceeded` where positions are learned and these are too many.
   */
  async enter(ids: Int32Array, layout: Layout): Promise<Float32Array> {
    const { past } = layout;
    const { stages } = this.#segment(0);
    const embed = stages[0] as Embed;
    const known = embed.positions?.shape[0] ?? Number.POSITIVE_INFINITY;
    if (past + layout.tokens > known) refuse('positions-exceeded', known, past + layout.tokens);
    const length = ids.length * embed.width;
    // Every row is written below.
    const hidden = this.#spare?.length === length ? this.#spare : new Float32Array(length);
    this.#spare = null;
    embed.tiles.forEach((tile, index) => {
      const table = this.#tensors(0, [tile])[0]!.data as Float32Array;
      const first = index * embed.tileRows;
      ids.forEach((id, i) => {
        const row = (id - first) * embed.width;
        if (row >= 0 && row < table.length) hidden.set(table.subarray(row, row + embed.width), i * embed.width);
      });
    });
    if (embed.positions !== null) {
      const places = this.#tensors(0, [embed.positions])[0]!.data as Float32Array;
      const period = layout.tokens * embed.width;
      for (let i = 0; i < hidden.length; i++) hidden[i]! += places[past * embed.width + (i % period)]!;
    }
    return this.#through(0, stages.slice(1), hidden, layout);
  }

  /** Takes back what `enter` gave. */
  reuse(hidden: Float32Array): void {
    this.#spare = hidden;
  }

  /** hidden [rows × tokens, width] through a segment that starts with a block. */
  run(segment: number, hidden: Float32Array, layout: Layout): Promise<Float32Array> {
    return this.#through(segment, this.#segment(segment).stages, hidden, layout);
  }

  /** The k most likely tokens after `positions`, rows of `hidden` [any, width], of log-softmax(logits / temperature). */
  async head(hidden: Float32Array, positions: Int32Array, k: number, temperature: number): Promise<TopRows> {
    const segment = this.#manifest.segments.length - 1;
    const head = this.#segment(segment).stages[0] as Head;
    const width = this.#manifest.model.hiddenSize;
    const rows = positions.length;
    const most = Math.min(HEAD_ROWS, rows);
    const group = new Float32Array(most * width);
    // Every run answers into the same buffers.
    const [logits, ids, logSums] = [new Float32Array(most * k), new Int32Array(most * k), new Float32Array(most)];
    const graph = await this.#graph(segment, head.graph);
    const top = new TopKRows(rows, k);
    const inverse = { data: Float32Array.of(1 / temperature), shape: [] };
    for (const tile of head.tiles) {
      const kept = Math.min(k, tile.columns);
      const count = { data: BigInt64Array.of(BigInt(kept)), shape: [1] };
      const weights = this.#feeds(segment, tile.weights);
      for (let at = 0; at < rows; at += HEAD_ROWS) {
        const n = Math.min(HEAD_ROWS, rows - at);
        for (let i = 0; i < n; i++) {
          const from = positions[at + i]! * width;
          group.set(hidden.subarray(from, from + width), i * width);
        }
        const part = { data: group.subarray(0, n * width), shape: [n, width] };
        const found = {
          top_logits: { data: logits.subarray(0, n * kept), shape: [n, kept] },
          top_ids: { data: ids.subarray(0, n * kept), shape: [n, kept] },
          log_sums: { data: logSums.subarray(0, n), shape: [n, 1] },
        };
        const feeds = { ...weights, hidden: part, inverse_temperature: inverse, k: count };
        await graph.run(feeds, Object.keys(found), found);
        const answer = { logits: found.top_logits.data, ids: found.top_ids.data, logSums: found.log_sums.data };
        top.add(answer, at, tile.start);
      }
    }
    return top.finish();
  }

  /** Forgets everything decrypted. */
  erase(): void {
    this.#bundleKey.fill(0);
    for (const { data } of this.#kept.values()) data.fill(0 as never);
    new Uint8Array(this.#streamed).fill(0);
    this.#spare?.fill(0);
    this.#kept.clear();
    this.#segments.clear();
    this.#graphs.clear();
  }

  async #through(segment: number, stages: readonly Stage[], input: Float32Array, layout: Layout) {
    let hidden = input;
    for (const stage of stages) {
      if (stage.kind === 'block') await this.#block(segment, stage, hidden, layout);
      else if (stage.kind === 'map') hidden = await this.#map(segment, stage, hidden, layout);
    }
    return hidden;
  }

  // In place, a few rows at a time.
  async #block(segment: number, stage: Block, hidden: Float32Array, { lengths, tokens, cache, past }: Layout) {
    const width = hidden.length / (lengths.length * tokens);
    const graph = await this.#graph(segment, stage.graph);
    const weights = this.#feeds(segment, stage.weights);
    const [cos, sin] = rotaryTables(stage.frequencies, past + tokens);
    const rowsAtOnce = this.#groupRows(stage, hidden, tokens);
    for (let row = 0; row < lengths.length; row += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, lengths.length - row);
      const data = hidden.subarray(row * tokens * width, (row + rows) * tokens * width);
      const shape = [rows, tokens, width];
      const empty = { data: new Float32Array(0), shape: [rows, stage.kvHeads, 0, stage.headDim] };
      const [key, value] = cache?.get(stage.block) ?? [empty, empty];
      const feeds: Record<string, PortTensor> = {
        ...weights,
        hidden: { data, shape },
        seqlens_k: { data: lengths.slice(row, row + rows).map((length) => past + length - 1), shape: [rows] },
        total_sequence_length: { data: Int32Array.of(past + tokens), shape: [] },
        rope_cos: cos,
        rope_sin: sin,
        position_ids: {
          data: BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt(past + (i % tokens))),
          shape: [rows, tokens],
        },
        past_key: key,
        past_value: value,
      };
      const present = cache === null ? [] : ['present_key', 'present_value'];
      const out = await graph.run(feeds, ['next', ...present], { next: { data, shape } });
      cache?.set(stage.block, [out.present_key!, out.present_value!]);
    }
  }

  async #map(segment: number, stage: Extract<Stage, { kind: 'map' }>, hidden: Float32Array, layout: Layout) {
    const rows = layout.lengths.length * layout.tokens;
    const width = hidden.length / rows;
    const graph = await this.#graph(segment, stage.graph);
    const weights = this.#feeds(segment, stage.weights);
    for (let at = 0; at < rows; at += MAX_GROUP_TOKENS) {
      const part = hidden.subarray(at * width, Math.min(rows, at + MAX_GROUP_TOKENS) * width);
      // Not into the same buffer: a product reads a row after it has written its start.
      const input = { data: part, shape: [part.length / width, width] };
      part.set((await graph.run({ ...weights, hidden: input }, ['mapped'])).mapped!.data as Float32Array);
    }
    return hidden;
  }

  /** Rows of a batch that a block may take at once within the trusted memory. Refuses `memory-exceeded`. */
  #groupRows(stage: Block, hidden: Float32Array, tokens: number): number {
    const streamed = 2 * stage.weights.reduce((sum, weight) => sum + bytesOf(weight), 0);
    const weights = this.#resident() > 0 ? this.#resident() : streamed;
    const free = this.#port.memoryBytes - hidden.byteLength - weights;
    const oneRow = tokens * stage.activationBytes;
    if (free < oneRow) refuse('memory-exceeded', this.#port.memoryBytes, hidden.byteLength + weights + oneRow);
    return Math.max(1, Math.floor(Math.min(free / stage.activationBytes, MAX_GROUP_TOKENS) / tokens));
  }

  /** Bytes of all weights when they are kept decrypted; 0 when they are streamed because they would fill over half of the memory. */
  #resident(): number {
    if (this.#residentBytes === null) {
      const all = this.#manifest.segments.flatMap(({ place }, i) =>
        place === 'enclave' ? this.#segment(i).stages : [],
      );
      const bytes = all.flatMap(tensorsOf).reduce((sum, tensor) => sum + bytesOf(tensor), 0);
      this.#residentBytes = bytes <= this.#port.memoryBytes / 2 ? bytes : 0;
    }
    return this.#residentBytes;
  }

  #segment(number: number): Segment {
    const found = this.#segments.get(number);
    if (found) return found;
    const entry = this.#manifest.segments[number];
    if (entry?.place !== 'enclave') return refuse('malformed');
    const key = segmentKey(this.#bundleKey, number);
    const places: readonly PiecePlace[] = readDirectory((offset, length) =>
      this.#port.readBundle(entry.sealed, offset, length),
    );
    const read = (piece: number, into?: Uint8Array): Uint8Array => {
      const place = places[piece] ?? refuse('internal');
      return openPiece(key, piece, this.#port.readBundle(entry.sealed, place.offset, place.length), into);
    };
    if (places[0]!.length > MAX_SEALED_INDEX_BYTES) refuse('internal');
    const segment = { stages: decodeIndex(read(0)).stages, read };
    this.#segments.set(number, segment);
    return segment;
  }

  #graph(segment: number, piece: number): Promise<LoadedGraph> {
    const key = `${segment}/${piece}`;
    const found = this.#graphs.get(key);
    if (found) return found;
    const loaded = this.#port.loadGraph(this.#segment(segment).read(piece));
    this.#graphs.set(key, loaded);
    return loaded;
  }

  /** One stage's weights by name; streamed ones are overwritten by those of the next stage. */
  #feeds(segment: number, tensors: readonly SealedTensor[]): Record<string, PortTensor> {
    const loaded = this.#tensors(segment, tensors);
    return Object.fromEntries(tensors.map(({ name }, i) => [name, loaded[i]!]));
  }

  #tensors(segment: number, tensors: readonly SealedTensor[]): PortTensor[] {
    const resident = this.#resident() > 0;
    // Each starts where every type is aligned.
    const sizes = tensors.map((tensor) => 8 * Math.ceil(bytesOf(tensor) / 8));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    if (!resident && this.#streamed.byteLength < total) this.#streamed = new ArrayBuffer(total);
    let next = 0;
    return tensors.map((tensor, i) => {
      const { type, shape, piece } = tensor;
      const found = this.#kept.get(`${segment}/${piece}`);
      if (found) return found;
      const [buffer, at] = resident ? [new ArrayBuffer(sizes[i]!), 0] : [this.#streamed, next];
      next += sizes[i]!;
      this.#segment(segment).read(piece, new Uint8Array(buffer, at, bytesOf(tensor)));
      const opened = { data: new VIEWS[type](buffer, at, elements(shape)), shape };
      if (resident) this.#kept.set(`${segment}/${piece}`, opened);
      return opened;
    });
  }
}
