// Writes the enclave-held parts of one span: stages, graphs and weights as sealed pieces, one weight at a time, embedding and head in
// tiles. Zone: owner.
// DESIGN sections 4 and 5. The enclave runs what stands here and builds nothing itself.
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { Graph } from '../graph/graph.js';
import { encodeModel } from '../graph/onnx.js';
import { type DecoderConfig, usesLocalRope } from '../model/config.js';
import { equaliseNeurons } from '../model/equalise-neurons.js';
import { type HeadTile, headTiles } from '../model/head-tiles.js';
import { quantiseWeight } from '../model/quantise.js';
import { rotaryFrequencies } from '../model/rope.js';
import type { Span } from '../model/spans.js';
import {
  activationFloats,
  buildBlock,
  buildFinalNorm,
  buildHeadTile,
  type StreamedGraph,
} from '../model/streamed-graphs.js';
import type { WeightTile } from '../model/weight-tiles.js';
import { embeddingWeight, positionsWeight, type SegmentWeight } from '../model/weights.js';
import { type PieceType, type SealedTensor, type Stage, segmentKey } from '../trusted/lock/sealed-segment.js';
import type { EnclavePrecision } from '../trusted/wire/manifest.js';
import { encodeDirectory, encodeIndex, sealPiece } from './seal-parts.js';

export interface SealedSpan {
  readonly span: Span;
  readonly config: DecoderConfig;
  readonly precision: EnclavePrecision;
  readonly bundleKey: Uint8Array;
  /** What the scheme makes of norms after a sublayer; see ForwardOptions. */
  readonly denseOutputGains: boolean;
  weightOf(weight: SegmentWeight): Promise<Float32Array>;
  /** Whole rows of a table or columns of a matrix, as many as `tileBytes` hold, from the first to the last. */
  tilesOf(weight: SegmentWeight, tileBytes: number): AsyncIterable<WeightTile>;
  /** [width, width]: hidden states times this are in the basis of the next span; null where it is the same. */
  exitChange(): Promise<Float32Array | null>;
}

type Bytes = Float32Array | Uint8Array;

/** A piece still to be written: its size, and its contents when asked. */
interface Draft {
  readonly bytes: number;
  contents(): Promise<Bytes>;
}

/** Tiles of embedding and head hold about this much. */
const TILE_BYTES = 8e6;
const PIECE_WIDTH: Readonly<Record<PieceType, number>> = { float32: 4, uint8: 1 };

/** The contents of a multi-piece weight, made once and given out piece by piece in order. */
function once<T>(make: () => Promise<T>, uses: number): () => Promise<T> {
  let made: Promise<T> | null = null;
  let left = uses;
  return () => {
    made ??= make();
    const result = made;
    left -= 1;
    if (left === 0) made = null;
    return result;
  };
}

class SealedDraft {
  readonly pieces: Draft[] = [];
  readonly stages: Stage[] = [];
  readonly #graphs: Map<string, number> = new Map();

  piece(bytes: number, contents: () => Promise<Bytes>): number {
    // Piece 0 is the index.
    return this.pieces.push({ bytes, contents });
  }

  graph(model: Uint8Array): number {
    const key = Buffer.from(model).toString('latin1');
    const found = this.#graphs.get(key);
    if (found !== undefined) return found;
    const piece = this.piece(model.length, async () => model);
    this.#graphs.set(key, piece);
    return piece;
  }

  tensor(name: string, type: PieceType, shape: readonly number[], contents: () => Promise<Bytes>): SealedTensor {
    const size = shape.reduce((a, b) => a * b, 1);
    return { name, type, shape, piece: this.piece(size * PIECE_WIDTH[type], contents) };
  }

  /** The tensors of one streamed weight [in, out]: itself, or its codes and scales. */
  weight(
    streamed: StreamedGraph['weights'][number],
    shape: readonly number[],
    read: () => Promise<Float32Array>,
  ): SealedTensor[] {
    const [first, scales] = streamed.inputs;
    if (scales === undefined) return [this.tensor(first!.name, 'float32', shape, read)];
    const weight = { ...streamed.weight, shape };
    const quantised = once(async () => quantiseWeight(weight, await read()), 2);
    return [
      this.tensor(first!.name, 'uint8', shape, async () => (await quantised()).codes),
      this.tensor(scales.name, 'float32', [shape[1]!], async () => (await quantised()).scales),
    ];
  }
}

/** Gives a weight's tiles one after the other, which is how pieces are written: one tile is in memory at a time. */
function inOrder(tilesOf: () => AsyncIterable<WeightTile>): () => Promise<Float32Array> {
  let tiles: AsyncIterator<WeightTile> | null = null;
  return async () => {
    tiles ??= tilesOf()[Symbol.asyncIterator]();
    return (await tiles.next()).value.data;
  };
}

function draftEmbedding(draft: SealedDraft, { config, weightOf, tilesOf }: SealedSpan): void {
  const { vocabSize, hiddenSize: width } = config;
  const tileRows = Math.max(1, Math.floor(TILE_BYTES / (4 * width)));
  const read = inOrder(() => tilesOf(embeddingWeight(config), 4 * width * tileRows));
  const tiles = Array.from({ length: Math.ceil(vocabSize / tileRows) }, (_, i) => {
    const rows = Math.min(tileRows, vocabSize - i * tileRows);
    return draft.tensor(`embedding.${i}`, 'float32', [rows, width], read);
  });
  const places = positionsWeight(config);
  const positions =
    config.positions === 'learned' ? draft.tensor('positions', 'float32', places.shape, () => weightOf(places)) : null;
  draft.stages.push({ kind: 'embed', width, tileRows, tiles, positions });
}

function draftBlock(draft: SealedDraft, index: number, sealed: SealedSpan): void {
  const { config, precision, denseOutputGains, weightOf } = sealed;
  const { numKeyValueHeads: kvHeads, headDim } = config;
  const block = buildBlock(config, index, precision, { denseOutputGains });
  const graph = draft.graph(block.model);
  const all = block.weights.map(({ weight }) => weight);
  const balanced = precision === 'int8' ? equaliseNeurons(all, weightOf) : weightOf;
  const weights = block.weights.flatMap((streamed) =>
    draft.weight(streamed, streamed.weight.shape, () => balanced(streamed.weight)),
  );
  const activationBytes = 4 * activationFloats(config);
  const rope = usesLocalRope(config, index) ? 'local' : 'global';
  const frequencies = config.positions === 'learned' ? [] : [...rotaryFrequencies(config, rope)];
  draft.stages.push({ kind: 'block', graph, block: index, kvHeads, headDim, frequencies, activationBytes, weights });
}

function draftHead(draft: SealedDraft, { config, precision, weightOf, tilesOf }: SealedSpan): void {
  const { vocabSize, hiddenSize: width } = config;
  const head = buildHeadTile(config, precision);
  const graph = draft.graph(head.model);
  const tiles = headTiles(vocabSize, Math.max(512, Math.floor(TILE_BYTES / (4 * width))));
  // The matrix [width, vocabulary] and, in some families, a bias [vocabulary].
  const parts = head.weights.map((streamed) => {
    const { weight } = streamed;
    const matrix = weight.shape.length === 2;
    const whole = once(() => weightOf(weight), tiles.length);
    const next = inOrder(() => tilesOf(weight, 4 * width * tiles[0]!.columns));
    const read = async ({ start, columns }: HeadTile): Promise<Float32Array> =>
      matrix ? next() : (await whole()).slice(start, start + columns);
    return { streamed, matrix, read };
  });
  draft.stages.push({
    kind: 'head',
    graph,
    tiles: tiles.map((tile) => {
      const weights = parts.flatMap(({ streamed, matrix, read }) =>
        draft.weight(streamed, matrix ? [width, tile.columns] : [tile.columns], () => read(tile)),
      );
      return { ...tile, weights };
    }),
  });
}

/** hidden [rows, width] · change [width, width] → mapped. */
function basisChangeGraph(width: number): Uint8Array {
  const graph = new Graph();
  const hidden = graph.input('hidden', 'float32', ['rows', width]);
  const change = graph.input('change', 'float32', [width, width]);
  graph.output('mapped', graph.emitOne('MatMul', [hidden, change], { shape: ['rows', width] }));
  return encodeModel(graph);
}

async function draftSpan(sealed: SealedSpan): Promise<SealedDraft> {
  const { span, config, weightOf } = sealed;
  const draft = new SealedDraft();
  if (span.head) {
    draftHead(draft, sealed);
    return draft;
  }
  if (span.embedding) draftEmbedding(draft, sealed);
  for (let block = span.first; block < span.end; block++) draftBlock(draft, block, sealed);
  if (span.finalNorm) {
    const norm = buildFinalNorm(config);
    const weights = norm.weights.map(({ weight, inputs }) =>
      draft.tensor(inputs[0]!.name, 'float32', weight.shape, () => weightOf(weight)),
    );
    draft.stages.push({ kind: 'map', graph: draft.graph(norm.model), weights });
  }
  const change = await sealed.exitChange();
  if (change !== null) {
    const width = config.hiddenSize;
    const weights = [draft.tensor('change', 'float32', [width, width], async () => change)];
    draft.stages.push({ kind: 'map', graph: draft.graph(basisChangeGraph(width)), weights });
  }
  return draft;
}

async function append(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
}

/** Writes the file and syncs it. Peak memory: the largest weight, a few times. */
export async function writeSealedSpan(path: string, sealed: SealedSpan): Promise<void> {
  const draft = await draftSpan(sealed);
  const key = segmentKey(sealed.bundleKey, sealed.span.index);
  const index = encodeIndex({ stages: draft.stages });
  const file = await open(path, 'w');
  try {
    await append(file, encodeDirectory([index.length, ...draft.pieces.map(({ bytes }) => bytes)]));
    await append(file, sealPiece(key, 0, index));
    for (const [i, piece] of draft.pieces.entries()) {
      const contents = await piece.contents();
      const bytes = new Uint8Array(contents.buffer, contents.byteOffset, contents.byteLength);
      await append(file, sealPiece(key, i + 1, bytes));
    }
    await file.sync();
  } finally {
    await file.close();
    key.fill(0);
  }
}
