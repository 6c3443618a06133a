// The basis a lock has turned weights into, found from weights of a related model: items (tokens, neurons) in unknown order, their vectors
// turned by one unknown orthogonal Q. Zone: owner (as attacker). First pairs come from what Q cannot change: norms and quadratic forms in
// the items' own second moments (Gram matching). Then, in turns: Q by Procrustes, pairs by nearest direction (ArrowMatch's idea).

import { timesTransposed } from './assemble.js';
import { bestAssignment } from './assignment.js';
import { multiply, procrustes } from './least-squares.js';

/** The same items in two models: `parts` tables [items, width] each, row i of every table of one side is one item. */
export interface ItemSet {
  readonly ancestor: readonly Float32Array[];
  readonly locked: readonly Float32Array[];
}

export interface Alignment {
  /** [width, width]: locked row = ancestor row · q. */
  readonly q: Float64Array;
  /** Per set: ancestor's item → locked item. */
  readonly maps: readonly Int32Array[];
}

const ROUNDS = 10;
/** Share of the first pairs that is trusted: those whose second-best partner is farthest off. */
const TRUSTED = 0.5;
/** Up to here the last pairs are the best one-to-one map, beyond it the nearest. */
const ASSIGNED = 1024;

export function alignBasis(sets: readonly ItemSet[], width: number): Alignment {
  const moments = (side: keyof ItemSet): Float64Array[] =>
    sets.flatMap((set) => set[side].map((t) => moment(t, width)));
  const forms = { ancestor: moments('ancestor'), locked: moments('locked') };
  const invariant = (tables: readonly Float32Array[], side: keyof ItemSet) => features(tables, forms[side], width);
  let pairs = sets.map((set) => {
    const [mine, theirs] = sameScale(invariant(set.ancestor, 'ancestor'), invariant(set.locked, 'locked'));
    return mutual(distances(mine, theirs), TRUSTED);
  });
  let q = solve(sets, pairs, width);
  for (let round = 0; round < ROUNDS; round += 1) {
    const next = sets.map((set) => mutual(turnedDistances(set, q, width), 1));
    const same = next.every((map, s) => map.every((to, i) => to === pairs[s]![i]));
    pairs = next;
    q = solve(sets, pairs, width);
    if (same) break;
  }
  const maps = sets.map((set) => {
    const { values, n } = turnedDistances(set, q, width);
    return n > ASSIGNED
      ? nearest(values, n).map(({ best }) => best)
      : bestAssignment(
          values.map((x) => -x),
          n,
        );
  });
  return { q, maps: maps.map((map) => Int32Array.from(map)) };
}

// Rows of all pairs, ancestor to locked.
function solve(sets: readonly ItemSet[], pairs: readonly Int32Array[], width: number): Float64Array {
  const from: Float32Array[] = [];
  const to: Float32Array[] = [];
  sets.forEach(({ ancestor, locked }, s) => {
    pairs[s]!.forEach((other, item) => {
      if (other < 0) return;
      ancestor.forEach((table, part) => {
        from.push(table.subarray(item * width, (item + 1) * width));
        to.push(locked[part]!.subarray(other * width, (other + 1) * width));
      });
    });
  });
  return procrustes(from, to, width);
}

/** xᵀx summed over rows, scaled to trace `width`. */
function moment(table: Float32Array, width: number): Float64Array {
  const out = new Float64Array(width * width);
  for (let at = 0; at < table.length; at += width)
    for (let i = 0; i < width; i += 1)
      for (let j = 0; j < width; j += 1) out[i * width + j]! += table[at + i]! * table[at + j]!;
  let trace = 0;
  for (let i = 0; i < width; i += 1) trace += out[i * width + i]!;
  return out.map((x) => (x * width) / trace);
}

/** Per item: x·yᵀ, x·C·yᵀ and x·C²·yᵀ for all pairs of its vectors and all second moments C, as signed roots. */
function features(tables: readonly Float32Array[], forms: readonly Float64Array[], width: number): Float64Array[] {
  const items = tables[0]!.length / width;
  const all = [null, ...forms, ...forms.map((form) => multiply(form, form, width, false))];
  const out = Array.from({ length: items }, (): number[] => []);
  for (const form of all)
    tables.forEach((table, a) => {
      // Second moments are symmetric: rows·Cᵀ = rows·C.
      const through = form === null ? table : timesTransposed(table, form, width);
      for (const other of tables.slice(a))
        for (let item = 0; item < items; item += 1) {
          let dot = 0;
          for (let i = item * width; i < (item + 1) * width; i += 1) dot += through[i]! * other[i]!;
          out[item]!.push(Math.sign(dot) * Math.sqrt(Math.abs(dot)));
        }
    });
  return out.map((row) => Float64Array.from(row));
}

// Both sides centred and scaled by the ancestor's mean and deviation, feature by feature.
function sameScale(mine: Float64Array[], theirs: Float64Array[]): [Float64Array[], Float64Array[]] {
  const count = mine[0]!.length;
  const mean = new Float64Array(count);
  const squares = new Float64Array(count);
  for (const row of mine)
    for (let i = 0; i < count; i += 1) {
      mean[i]! += row[i]! / mine.length;
      squares[i]! += row[i]! ** 2 / mine.length;
    }
  const scaled = (row: Float64Array): Float64Array =>
    row.map((x, i) => (x - mean[i]!) / Math.sqrt(Math.max(squares[i]! - mean[i]! ** 2, 1e-20)));
  return [mine.map(scaled), theirs.map(scaled)];
}

interface Distances {
  /** Squared, [n, n]. */
  readonly values: Float64Array;
  readonly n: number;
}

function distances(mine: readonly ArrayLike<number>[], theirs: readonly ArrayLike<number>[]): Distances {
  const n = mine.length;
  const values = new Float64Array(n * n);
  mine.forEach((a, i) => {
    theirs.forEach((b, j) => {
      let sum = 0;
      for (let c = 0; c < a.length; c += 1) sum += (a[c]! - b[c]!) ** 2;
      values[i * n + j] = sum;
    });
  });
  return { values, n };
}

function turnedDistances({ ancestor, locked }: ItemSet, q: Float64Array, width: number): Distances {
  const qt = Float64Array.from(q, (_, i) => q[(i % width) * width + Math.floor(i / width)]!);
  const joined = (tables: readonly Float32Array[]): number[][] =>
    Array.from({ length: tables[0]!.length / width }, (_, item) =>
      tables.flatMap((table) => [...table.subarray(item * width, (item + 1) * width)]),
    );
  return distances(joined(ancestor.map((table) => timesTransposed(table, qt, width))), joined(locked));
}

function nearest(values: Float64Array, n: number, columns = false): { best: number; ratio: number }[] {
  return Array.from({ length: n }, (_, i) => {
    let [best, least, second] = [-1, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let j = 0; j < n; j += 1) {
      const distance = values[columns ? j * n + i : i * n + j]!;
      if (distance < least) [best, second, least] = [j, least, distance];
      else if (distance < second) second = distance;
    }
    return { best, ratio: least / second };
  });
}

/** Pairs that are each other's nearest, the clearest `share` of them; −1 for the rest. */
function mutual({ values, n }: Distances, share: number): Int32Array {
  const rows = nearest(values, n);
  const columns = nearest(values, n, true);
  const pairs = rows.flatMap(({ best, ratio }, i) => (columns[best]?.best === i ? [{ i, best, ratio }] : []));
  pairs.sort((a, b) => a.ratio - b.ratio);
  const map = new Int32Array(n).fill(-1);
  for (const { i, best } of pairs.slice(0, Math.ceil(share * pairs.length))) map[i] = best;
  return map;
}
