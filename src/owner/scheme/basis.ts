// Changes of basis x ↦ x·M of one axis of a model, and what each does to the weights that touch it. Zone: owner. DESIGN section 3.
// Every M here mixes coordinates inside groups only and then moves the groups, so a weight can be locked a few groups at a time.
// Data is [coordinates, width], the axis first: a weight that writes into the axis, stored [out, in], becomes Mᵀ·data; one that
// reads from it, stored [in, out], becomes M⁻¹·data.
import { type FixedProduct, multiply, openProduct } from '../../graph/product.js';
import { transposed } from '../../model/weight-tiles.js';
import { invertPermutation } from '../../trusted/lock/stream.js';

export interface BasisChange {
  /** Coordinates of a group, side by side: 1 for a permutation, all of them for a dense M. */
  readonly group: number;
  /** [groups]: the old group that comes to lie at each place. */
  readonly order: Int32Array;
  /** Mᵀ·data before the groups move; data [groups.length · group, width] holds the old groups named. */
  write(data: Float32Array, width: number, groups: Int32Array): Promise<Float32Array>;
  /** M⁻¹·data before the groups move. */
  read(data: Float32Array, width: number, groups: Int32Array): Promise<Float32Array>;
  /** Dense M: rows [count, n] → rows·M and rows·M⁻ᵀ, where the axis is the last one. */
  readonly across?: Readonly<Record<Direction, (rows: Float32Array, count: number) => Promise<Float32Array>>>;
  /** Gives the runtime's memory back. */
  close?(): Promise<void>;
}

export type Direction = 'write' | 'read';

/** The named groups of data [coordinates, width], one after the other. */
export function gather(data: Float32Array, groupSize: number, groups: Int32Array): Float32Array {
  const out = new Float32Array(groups.length * groupSize);
  groups.forEach((from, i) => {
    out.set(data.subarray(from * groupSize, (from + 1) * groupSize), i * groupSize);
  });
  return out;
}

/** All of an axis: data [n, width] → Mᵀ·data or M⁻¹·data. */
export async function change(
  basis: BasisChange,
  direction: Direction,
  data: Float32Array,
  width: number,
): Promise<Float32Array> {
  return basis[direction](gather(data, basis.group * width, basis.order), width, basis.order);
}

function inPlace(groups: number): Int32Array {
  return Int32Array.from({ length: groups }, (_, i) => i);
}

/** Coordinate i moves to position to[i], whole groups of `size` coordinates at a time. */
export function permuted(to: Int32Array, size = 1): BasisChange {
  const same = async (data: Float32Array): Promise<Float32Array> => data;
  return { group: size, order: invertPermutation(to), write: same, read: same };
}

/** M orthogonal, [n, n] row-major. */
export function orthogonal(m: Float32Array, n: number): BasisChange {
  let opened: Promise<FixedProduct> | null = null;
  const across = async (rows: Float32Array, count: number): Promise<Float32Array> => {
    opened ??= openProduct(m, n, n);
    return (await opened).apply(rows, count);
  };
  const rotate = async (data: Float32Array, width: number): Promise<Float32Array> =>
    transposed(await across(transposed(data, n, width), width), width, n);
  const close = async (): Promise<void> => {
    const product = opened;
    opened = null;
    await (await product)?.close();
  };
  return { group: n, order: inPlace(1), write: rotate, read: rotate, across: { write: across, read: across }, close };
}

/** Block-diagonal M: square blocks of `size`; `mt` and `inverse` hold Mᵀ and M⁻¹, [blocks, size, size]. */
export function blockDiagonal(mt: Float32Array, inverse: Float32Array, size: number): BasisChange {
  const apply = (blocks: Float32Array) => (data: Float32Array, columns: number, groups: Int32Array) =>
    multiply(gather(blocks, size * size, groups), data, { batch: groups.length, rows: size, inner: size, columns });
  return {
    group: size,
    order: inPlace(mt.length / (size * size)),
    write: apply(mt),
    read: apply(inverse),
  };
}

/** M = diag(factors). */
export function scaled(factors: Float32Array): BasisChange {
  const scale = (factorOf: (i: number) => number) => async (data: Float32Array, width: number, groups: Int32Array) => {
    const out = new Float32Array(data.length);
    groups.forEach((group, i) => {
      const factor = factorOf(group);
      for (let at = i * width; at < (i + 1) * width; at++) out[at] = data[at]! * factor;
    });
    return out;
  };
  return {
    group: 1,
    order: inPlace(factors.length),
    write: scale((i) => factors[i]!),
    read: scale((i) => 1 / factors[i]!),
  };
}

/**
 * Every head's coordinate pairs (i, i + e/2), as RoPE pairs them, turned by angle φ and stretched by ρ: such a 2-D map commutes with
 * RoPE's rotation of the same pair. `angles` and `factors` are [heads, e/2].
 */
export function pairRotations(angles: Float32Array, factors: Float32Array, headDim: number): BasisChange {
  const half = headDim / 2;
  // Row vectors: (x, y)·ρR(φ) = ρ(x cos φ − y sin φ, x sin φ + y cos φ).
  const turn = (factorOf: (pair: number) => number) => async (data: Float32Array, width: number, heads: Int32Array) => {
    const out = new Float32Array(data.length);
    for (let at = 0; at < heads.length * half; at++) {
      const [head, within] = [Math.floor(at / half), at % half];
      const pair = heads[head]! * half + within;
      const first = (head * headDim + within) * width;
      const second = first + half * width;
      const cos = factorOf(pair) * Math.cos(angles[pair]!);
      const sin = factorOf(pair) * Math.sin(angles[pair]!);
      for (let i = 0; i < width; i++) {
        const x = data[first + i]!;
        const y = data[second + i]!;
        out[first + i] = x * cos - y * sin;
        out[second + i] = x * sin + y * cos;
      }
    }
    return out;
  };
  return {
    group: headDim,
    order: inPlace(angles.length / half),
    write: turn((pair) => factors[pair]!),
    read: turn((pair) => 1 / factors[pair]!),
  };
}

/** The same change with larger groups; with one group of everything where its groups do not stay in theirs. */
function inGroupsOf(basis: BasisChange, group: number): BasisChange {
  if (basis.group === group) return basis;
  const ratio = group / basis.group;
  const stays = basis.order.every((from, place) => from === place);
  if (!stays || !Number.isInteger(ratio)) {
    const whole = (direction: Direction) => (data: Float32Array, width: number) =>
      change(basis, direction, data, width);
    return { group: basis.group * basis.order.length, order: inPlace(1), write: whole('write'), read: whole('read') };
  }
  const finer = (groups: Int32Array): Int32Array =>
    Int32Array.from({ length: groups.length * ratio }, (_, i) => groups[Math.floor(i / ratio)]! * ratio + (i % ratio));
  return {
    group,
    order: inPlace(basis.order.length / ratio),
    write: (data, width, groups) => basis.write(data, width, finer(groups)),
    read: (data, width, groups) => basis.read(data, width, finer(groups)),
  };
}

/** M = M₁·M₂: the first change is made first. */
function compose(first: BasisChange, second: BasisChange): BasisChange {
  const group = Math.max(first.group, second.group);
  const [a, b] = [inGroupsOf(first, group), inGroupsOf(second, group)];
  if (a.group !== b.group)
    return compose(inGroupsOf(a, a.group * a.order.length), inGroupsOf(b, b.group * b.order.length));
  const placeOf = invertPermutation(a.order);
  const through = (direction: Direction) => async (data: Float32Array, width: number, groups: Int32Array) =>
    b[direction](
      await a[direction](data, width, groups),
      width,
      groups.map((from) => placeOf[from]!),
    );
  return {
    group: a.group,
    order: b.order.map((place) => a.order[place]!),
    write: through('write'),
    read: through('read'),
  };
}

/** M = M₁·M₂·…: the first change is made first. */
export function chain(first: BasisChange, ...others: readonly BasisChange[]): BasisChange {
  return others.reduce(compose, first);
}
