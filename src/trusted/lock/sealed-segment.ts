// The enclave-held parts of one segment as a file of sealed pieces: an index, graphs and weights, each under AES-256-GCM with its
// position bound in, so that pieces can be read, checked and decrypted one at a time. Zone: trusted; the owner writes it. DESIGN section 5.
// Layout: u32 count, count × u64 length, then the pieces; piece 0 is the index. The lengths only say where to read.
import { hkdfSync } from 'node:crypto';
import { openBytes } from '../wire/aead.js';
import { encodeUtf8 } from '../wire/bytes.js';
import { parseCanonicalJson } from '../wire/canonical-json.js';
import { Reader, Writer } from '../wire/codec.js';
import { MalformedError } from '../wire/errors.js';
import { MAX_PIECES, MAX_SEALED_INDEX_BYTES } from '../wire/limits.js';

export type PieceType = 'float32' | 'uint8';

/** A tensor in a piece of its own, an input of its stage's graph. */
export interface SealedTensor {
  readonly name: string;
  readonly type: PieceType;
  readonly shape: readonly number[];
  readonly piece: number;
}

/** What the enclave does with a batch, stage by stage. `graph` is the piece with the ONNX bytes, shared by stages of one shape. */
export type Stage =
  /** Token ids → hidden: a table [vocabulary, width] in tiles of `tileRows` rows; `positions` [positions, width] is added where learned. */
  | {
      readonly kind: 'embed';
      readonly width: number;
      readonly tileRows: number;
      readonly tiles: readonly SealedTensor[];
      readonly positions: SealedTensor | null;
    }
  /** hidden → hidden, row by row (final norm, change of basis). */
  | { readonly kind: 'map'; readonly graph: number; readonly weights: readonly SealedTensor[] }
  /** hidden and a key/value cache → both. `frequencies` are RoPE's in this block, one per pair; `activationBytes` per token at the peak. */
  | {
      readonly kind: 'block';
      readonly graph: number;
      readonly block: number;
      readonly kvHeads: number;
      readonly headDim: number;
      readonly frequencies: readonly number[];
      readonly activationBytes: number;
      readonly weights: readonly SealedTensor[];
    }
  /** hidden → logits of one tile of the vocabulary after the other; `start` is the tile's first token. */
  | {
      readonly kind: 'head';
      readonly graph: number;
      readonly tiles: readonly {
        readonly start: number;
        readonly columns: number;
        readonly weights: readonly SealedTensor[];
      }[];
    };

export interface SealedIndex {
  readonly stages: readonly Stage[];
}

/** Key of one segment's pieces, from the bundle key. */
export function segmentKey(bundleKey: Uint8Array, segment: number): Uint8Array {
  return new Uint8Array(
    hkdfSync('sha256', bundleKey, encodeUtf8('distillock segment'), new Writer().u32(segment).finish(), 32),
  );
}

/** What a piece is bound to: its place. */
export function pieceAssociated(piece: number): Uint8Array {
  return new Writer().text('distillock piece v1').u32(piece).finish();
}

/** Throws VerificationError('sealed') for another key or place, altered bytes, or another length than `into`. */
export function openPiece(key: Uint8Array, piece: number, sealed: Uint8Array, into?: Uint8Array): Uint8Array {
  return openBytes(key, pieceAssociated(piece), sealed, into);
}

export interface PiecePlace {
  readonly offset: number;
  readonly length: number;
}

/** Where each piece lies. Throws MalformedError for a count out of range. */
export function readDirectory(read: (offset: number, length: number) => Uint8Array): PiecePlace[] {
  const count = new Reader(read(0, 4)).u32();
  if (count === 0 || count > MAX_PIECES)
    throw new MalformedError('sealed-segment', 'a sealed segment lists no or too many pieces');
  const reader = new Reader(read(4, 8 * count));
  let offset = 4 + 8 * count;
  return Array.from({ length: count }, () => {
    const length = reader.u64();
    offset += length;
    return { offset: offset - length, length };
  });
}

/** Only what `openPiece` gave out: the owner wrote it. */
export function decodeIndex(plaintext: Uint8Array): SealedIndex {
  return parseCanonicalJson(plaintext, MAX_SEALED_INDEX_BYTES) as unknown as SealedIndex;
}
