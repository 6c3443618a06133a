// Reads one weight of a segment from a checkpoint and locks it, a tile at a time. Zone: owner. DESIGN sections 3 and 5.
// A weight is cut along the axis whose secret mixes small groups only; a dense secret is applied along the other, row by row of a
// tile. Tiles of any size give the same bits.

import type { TensorSource } from '../../model/tensors.js';
import { joinTiles, transposed, type WeightTile, wholeTile } from '../../model/weight-tiles.js';
import { type SegmentWeight, sizeOfWeight } from '../../model/weights.js';
import { type BasisChange, change } from './basis.js';
import { checkFinite, columnsOf, diagonalRows, rowsOf, type TakeRows } from './checkpoint-rows.js';
import type { LockScheme } from './lock-scheme.js';

/** Bytes in float32. */
export interface TileSizes {
  /** Of a tile; a few tiles are alive at once. */
  readonly tile: number;
  /** Checkpoint tensors up to this size are held whole, larger ones read row by row. */
  readonly whole: number;
}
const defaultSizes: TileSizes = { tile: 64 << 20, whole: 256 << 20 };

/** What of a scheme a weight's tiles depend on. */
type Bases = Pick<LockScheme, 'foldsGains' | 'basis'>;
const unlocked: Bases = { foldsGains: false, basis: async () => null };

/** What happens to one part of a matrix or table. */
interface PartLock {
  readonly rows: BasisChange | null;
  readonly columns: BasisChange | null;
  /** Gain of the norm before, folded into the rows. */
  readonly gain: Float32Array | null;
  /** Length of the weight's first axis, and of this part's second. */
  readonly shape: readonly [number, number];
  /** First column of the part. */
  readonly column: number;
  readonly tileBytes: number;
}

/** The locked weight in the segment's layout, float32, of the shape the segment gives. */
export function lockWeight(
  lock: LockScheme,
  tensors: TensorSource,
  weight: SegmentWeight,
  segment: number,
): Promise<Float32Array> {
  return joinTiles(weight, lockedTiles(lock, tensors, weight, segment));
}

/** The weight without a lock, as tiles that cover it. Throws what `lockedTiles` throws. */
export function plainTiles(tensors: TensorSource, weight: SegmentWeight): AsyncGenerator<WeightTile> {
  return lockedTiles(unlocked, tensors, weight, 0);
}

/**
 * The locked weight as tiles that cover it, from its first row or column to its last. Throws MalformedError('weight-not-finite') naming
 * the tensor.
 */
export async function* lockedTiles(
  lock: Bases,
  tensors: TensorSource,
  weight: SegmentWeight,
  segment: number,
  wanted: Partial<TileSizes> = {},
): AsyncGenerator<WeightTile> {
  const sizes = { ...defaultSizes, ...wanted };
  const at = { segment, block: weight.block };
  if (weight.kind === 'bias' || weight.kind === 'gain') {
    yield wholeTile(weight, await lockedVector(lock, tensors, weight, at));
    return;
  }
  const rows = weight.rows === null ? null : await lock.basis(weight.rows, at);
  if (weight.kind === 'diagonal') {
    const [{ tensor, columns }, width] = [weight.parts[0]!, weight.shape[0]!];
    const part = { rows, columns: await lock.basis(columns, at), gain: null, column: 0, tileBytes: sizes.tile };
    yield* tilesOfRows({ ...part, shape: [width, width] }, await diagonalRows(tensors, tensor));
    return;
  }
  const gain = lock.foldsGains && weight.gain !== null ? await tensors.read(weight.gain) : null;
  if (gain !== null) checkFinite(weight.gain!, gain);
  let column = 0;
  for (const { tensor, columns: space } of weight.parts) {
    const columns = await lock.basis(space, at);
    const { shape } = tensors.info(tensor);
    const [inputs, outputs] = [weight.shape[0]!, weight.kind === 'table' ? shape[1]! : shape[0]!];
    const part = { rows, columns, gain, shape: [inputs, outputs], column, tileBytes: sizes.tile } as const;
    if (weight.kind === 'table') {
      yield* tilesOfRows(part, await rowsOf(tensors, tensor, { rows: inputs, width: outputs }, sizes.whole));
    } else if (columns?.across && !rows?.across) {
      yield* tilesOfRows(part, await columnsOf(tensors, tensor, { rows: inputs, width: outputs }));
    } else {
      yield* tilesOfColumns(part, await rowsOf(tensors, tensor, { rows: outputs, width: inputs }, sizes.whole));
    }
    column += outputs;
  }
}

/** Places [at, at + groups.length · group) of an axis and the old groups they are made of. */
interface Cut {
  readonly at: number;
  readonly groups: Int32Array;
  readonly group: number;
}

function* cuts(basis: BasisChange | null, size: number, width: number, tileBytes: number): Generator<Cut> {
  const group = basis?.group ?? 1;
  const order = basis?.order ?? Int32Array.from({ length: size }, (_, i) => i);
  const step = Math.max(1, Math.floor(tileBytes / (4 * width * group)));
  for (let first = 0; first < order.length; first += step)
    yield { at: first * group, groups: order.subarray(first, first + step), group };
}

/** Stored as [in, out] = `take`'s own rows: cut along the first axis. */
async function* tilesOfRows(part: PartLock, take: TakeRows): AsyncGenerator<WeightTile> {
  const { rows, columns, gain, column, tileBytes } = part;
  const [inputs, width] = part.shape;
  for (const { at, groups, group } of cuts(rows, inputs, width, tileBytes)) {
    let data = await take(groups, group);
    const count = data.length / width;
    if (gain) multiplyInPlace(data, width, (row) => gain[groups[Math.floor(row / group)]! * group + (row % group)]!);
    if (rows) data = await rows.read(data, width, groups);
    if (columns?.across) data = await columns.across.write(data, count);
    else if (columns)
      data = transposed(await change(columns, 'write', transposed(data, count, width), count), width, count);
    yield { row: at, column, rows: count, columns: width, data };
  }
}

/** Stored as [in, out], the transpose of `take`'s rows [out, in]: cut along the second axis. */
async function* tilesOfColumns(part: PartLock, take: TakeRows): AsyncGenerator<WeightTile> {
  const { rows, columns, gain, column, tileBytes } = part;
  const [width, outputs] = part.shape;
  for (const { at, groups, group } of cuts(columns, outputs, width, tileBytes)) {
    let data = await take(groups, group);
    const count = data.length / width;
    if (columns) data = await columns.write(data, width, groups);
    if (gain) multiplyInPlace(data, width, null, gain);
    if (rows?.across) data = await rows.across.read(data, count);
    data = transposed(data, count, width);
    if (rows && !rows.across) data = await change(rows, 'read', data, count);
    yield { row: 0, column: column + at, rows: width, columns: count, data };
  }
}

/** Multiplies data [rows, width] by a factor for each row, or by one for each column. */
function multiplyInPlace(
  data: Float32Array,
  width: number,
  ofRow: ((row: number) => number) | null,
  ofColumn?: Float32Array,
): void {
  for (let row = 0; row * width < data.length; row++) {
    const factor = ofRow?.(row) ?? 1;
    for (let c = 0; c < width; c++) data[row * width + c]! *= ofColumn ? ofColumn[c]! : factor;
  }
}

async function lockedVector(
  lock: Bases,
  tensors: TensorSource,
  weight: SegmentWeight,
  at: { readonly segment: number; readonly block: number | null },
): Promise<Float32Array> {
  const out = new Float32Array(sizeOfWeight(weight));
  if (weight.kind === 'gain' && lock.foldsGains && weight.parts[0]!.columns === 'residual') return out.fill(1);
  let done = 0;
  for (const { tensor, columns } of weight.parts) {
    const basis = await lock.basis(columns, at);
    const plain = await tensors.read(tensor);
    checkFinite(tensor, plain);
    out.set(basis ? await change(basis, 'write', plain, 1) : plain, done);
    done += plain.length;
  }
  return out;
}
