// What an unknown turn of the basis cannot change about items: dot products of an item's own vectors, plainly and through the items' second
// moments (Gram matching). Two models' items with like numbers are likely the same item. Zone: owner (as attacker).
import { multiply } from '../graph/product.js';
import { gramOf } from './residual-directions.js';

/** Numbers [items, count] of every item. */
export interface Invariants {
  readonly values: Float32Array;
  readonly count: number;
}

/** Σ xᵀx over the rows of `table`, [width, width], scaled to trace `width`. */
export async function moment(table: Float32Array, width: number): Promise<Float32Array> {
  const gram = await gramOf(table, width);
  let trace = 0;
  for (let i = 0; i < width; i += 1) trace += gram[i * width + i]!;
  return gram.map((x) => (x * width) / trace);
}

/** Per item: x·yᵀ, x·C·yᵀ and x·C²·yᵀ for all pairs of its vectors and all moments C, as signed roots. */
export async function invariants(
  tables: readonly Float32Array[],
  moments: readonly Float32Array[],
  width: number,
): Promise<Invariants> {
  const items = tables[0]!.length / width;
  const columns: Float32Array[] = [];
  const compare = (left: readonly Float32Array[], right: readonly Float32Array[]): void => {
    left.forEach((a, i) => {
      for (const b of right.slice(i)) columns.push(signedRoots(a, b, width));
    });
  };
  compare(tables, tables);
  for (const form of moments) {
    const through: Float32Array[] = [];
    for (const table of tables)
      through.push(await multiply(table, form, { rows: items, inner: width, columns: width }));
    compare(through, tables);
    // Moments are symmetric: x·C²·yᵀ = (x·C)·(y·C)ᵀ.
    compare(through, through);
  }
  const count = columns.length;
  const values = new Float32Array(items * count);
  columns.forEach((column, c) => {
    column.forEach((x, item) => {
      values[item * count + c] = x;
    });
  });
  return { values, count };
}

function signedRoots(a: Float32Array, b: Float32Array, width: number): Float32Array {
  return Float32Array.from({ length: a.length / width }, (_, item) => {
    let dot = 0;
    for (let i = item * width; i < (item + 1) * width; i += 1) dot += a[i]! * b[i]!;
    return Math.sign(dot) * Math.sqrt(Math.abs(dot));
  });
}

/** Both centred and scaled by the mean and deviation of `mine`, number by number, in place. */
export function sameScale(mine: Invariants, theirs: Invariants): void {
  const { values, count } = mine;
  const items = values.length / count;
  for (let c = 0; c < count; c += 1) {
    let mean = 0;
    let squares = 0;
    for (let item = 0; item < items; item += 1) mean += values[item * count + c]! / items;
    for (let item = 0; item < items; item += 1) squares += (values[item * count + c]! - mean) ** 2 / items;
    const scale = 1 / Math.sqrt(Math.max(squares, 1e-20));
    for (const { values: side } of [mine, theirs])
      for (let at = c; at < side.length; at += count) side[at] = (side[at]! - mean) * scale;
  }
}
