// Writes the enclave-held parts of one span: stages, graphs and weights as sealed pieces, one weight at a time. Zone: owner.
// DESIGN sections 4 and 5. The enclave runs what stands here and builds nothing itself.
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { Graph } from '../graph/graph.js';
import { encodeModel } from '../graph/onnx.js';
import { type DecoderConfig, usesLocalRope } from '../model/config.js';
import { equaliseNeurons } from '../model/equalise-neurons.js';
import { headTiles } from '../model/head-tiles.js';
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
  /** [width, width]: hidden states times this are in the basis of the next span; null where it is the same. */
  exitChange(): Promise<Float32Array | null>;
}

type Bytes = Float32Array | Int8Array | Uint8Array;

/** A piece still to be written: its size, and its contents when asked. */
interface Draft {
  readonly bytes: number;
  contents(): Promise<Bytes>;
}

/** Tiles of embedding and head hold about this much. */
const TILE_BYTES = 8e6;
const PIECE_WIDTH: Readonly<Record<PieceType, number>> = { float32: 4, int8: 1, uint8: 1 };

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

/** Columns [start, start + columns) of a matrix [rows, width]. */
function columnsOf(matrix: Float32Array, rows: number, start: number, columns: number): Float32Array {
  const width = matrix.length / rows;
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    out.set(matrix.subarray(row * width + start, row * width + start + columns), row * columns);
  return out;
}

function draftEmbedding(draft: SealedDraft, { config, weightOf }: SealedSpan): void {
  const { vocabSize, hiddenSize: width } = config;
  const tileRows = Math.max(1, Math.floor(TILE_BYTES / (4 * width)));
  const count = Math.ceil(vocabSize / tileRows);
  const table = once(() => weightOf(embeddingWeight(config)), count);
  const tiles = Array.from({ length: count }, (_, i) => {
    const [start, end] = [i * tileRows, Math.min(vocabSize, (i + 1) * tileRows)];
    const read = async (): Promise<Float32Array> => (await table()).slice(start * width, end * width);
    return draft.tensor(`embedding.${i}`, 'float32', [end - start, width], read);
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

function draftHead(draft: SealedDraft, { config, precision, weightOf }: SealedSpan): void {
  const { vocabSize, hiddenSize: width } = config;
  const head = buildHeadTile(config, precision);
  const graph = draft.graph(head.model);
  const tiles = headTiles(vocabSize, Math.max(512, Math.floor(TILE_BYTES / (4 * width))));
  // The matrix [width, vocabulary] and, in some families, a bias: [1, vocabulary] here.
  const parts = head.weights.map((streamed) => {
    const matrix = streamed.weight.shape.length === 2;
    return { streamed, matrix, whole: once(() => weightOf(streamed.weight), tiles.length) };
  });
  draft.stages.push({
    kind: 'head',
    graph,
    tiles: tiles.map(({ start, columns }) => {
      const weights = parts.flatMap(({ streamed, matrix, whole }) => {
        const read = async (): Promise<Float32Array> => columnsOf(await whole(), matrix ? width : 1, start, columns);
        return draft.weight(streamed, matrix ? [width, columns] : [columns], read);
      });
      return { start, columns, weights };
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
