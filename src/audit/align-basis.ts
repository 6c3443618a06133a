// The basis a lock has turned weights into, found from weights of a related model: items (tokens, neurons) in unknown order, their vectors
// turned by one unknown orthogonal Q. Zone: owner (as attacker). First pairs come from what Q cannot change (Gram matching). Then, in turns:
// Q by Procrustes, pairs by nearest direction (ArrowMatch's idea). Large sets take part with a sample of their items, and products run in
// the runtime: nothing grows with the square of a vocabulary.

import { multiply } from '../graph/product.js';
import { type Matches, mapRows, nearestRows, sideBySide } from './match-rows.js';
import { removeDirections, sharedDirections } from './residual-directions.js';
import { turnBetween } from './turn-between.js';
import { invariants, moment, sameScale } from './turn-invariants.js';

/** The same items in two models: `parts` tables [items, width] each, row i of every table of one side is one item. */
export interface ItemSet {
  readonly ancestor: readonly Float32Array[];
  readonly locked: readonly Float32Array[];
}

export interface AlignOptions {
  /** Directions that locked rows share beyond those of their relatives (a low-rank update) count neither for pairs nor for Q. */
  readonly lowRank?: boolean;
}

export interface Alignment {
  /** [width, width]: locked row = ancestor row · q. */
  readonly q: Float64Array;
  /** Squared distance of paired rows as a share of their squared length: 0 for the same model. */
  readonly distance: number;
  /** Ancestor's item → locked item, of one set. */
  map(set: number): Promise<Int32Array>;
}

const ROUNDS = 10;
/** Each step fills in what an update hides by what the turn before says, so Q moves on with the same pairs. */
const LOW_RANK_ROUNDS = 10;
const RANKS = [1, 2, 3, 4, 6, 8, 12, 16];
/** Mean squared change of a row of Q. */
const STILL = 1e-10;
/** Share of the first pairs that is trusted: those whose second-best partner is farthest off. */
const TRUSTED = 0.5;
/** Items of a set that take part in the search for Q. */
const SAMPLED = 4096;
/** Pairs that Q is solved from, over all sets. */
const SOLVED_FROM = 16_384;
/** Sets whose second moments are compared. */
const MOMENTS = 12;

export async function alignBasis(
  sets: readonly ItemSet[],
  width: number,
  { lowRank = false }: AlignOptions = {},
): Promise<Alignment> {
  const sampled = sets.map(({ ancestor, locked }) => ({ ancestor: ancestor.map((t) => sample(t, width)), locked }));
  const most = Math.ceil(SOLVED_FROM / sets.length);
  let pairs = await firstPairs(sets, sampled, width, most);
  let leftOut: LeftOut = sets.map(({ locked }) => locked.map(() => []));
  let q = await solve(paired(sampled, pairs, width), null, leftOut, width);
  /** Whether pairs changed or Q moved. */
  const round = async (): Promise<boolean> => {
    const next: Pair[][] = [];
    for (const [s, set] of sampled.entries()) {
      const { mine, theirs } = await sides(set, q, leftOut[s]!, width);
      next.push(mutual(await nearestRows(mine, theirs, width * set.locked.length), 1, most));
    }
    const same = next.every((own, s) => samePairs(own, pairs[s]!));
    pairs = next;
    const before = q;
    q = await solve(paired(sampled, pairs, width), q, leftOut, width);
    const moved = q.reduce((sum, x, i) => sum + (x - before[i]!) ** 2, 0) / width;
    return !same || moved > STILL;
  };
  for (let n = 0; n < ROUNDS && (await round()); n += 1);
  // From where plain alignment ends: what it leaves over shows the update. The rank grows slowly, as a turn that is still off looks like
  // an update of any rank.
  for (const rank of lowRank ? RANKS : []) {
    for (let n = 0; n < LOW_RANK_ROUNDS; n += 1) {
      leftOut = await updates(paired(sampled, pairs, width), q, rank, width);
      if (!(await round())) break;
    }
    if (leftOut.flat().every((directions) => directions.length < rank)) break;
  }
  const map = async (s: number): Promise<Int32Array> => {
    const { mine, theirs } = await sides(sets[s]!, q, leftOut[s]!, width);
    return mapRows(mine, theirs, width * sets[s]!.locked.length);
  };
  return { q, distance: await distance(paired(sampled, pairs, width), q, width), map };
}

function sample(table: Float32Array, width: number): Float32Array {
  const n = table.length / width;
  if (n <= SAMPLED) return table;
  return gathered(
    table,
    Array.from({ length: SAMPLED }, (_, i) => Math.floor((i * n) / SAMPLED)),
    width,
  );
}

function gathered(table: Float32Array, rows: readonly number[], width: number): Float32Array {
  const out = new Float32Array(rows.length * width);
  rows.forEach((row, i) => {
    out.set(table.subarray(row * width, (row + 1) * width), i * width);
  });
  return out;
}

interface Pair {
  /** Row of the ancestor's sample. */
  readonly item: number;
  readonly other: number;
}

async function firstPairs(
  sets: readonly ItemSet[],
  sampled: readonly ItemSet[],
  width: number,
  most: number,
): Promise<Pair[][]> {
  const compared = sets.filter((_, s) => s % Math.ceil(sets.length / MOMENTS) === 0);
  const moments = async (side: keyof ItemSet): Promise<Float32Array[]> => {
    const found: Float32Array[] = [];
    for (const set of compared) for (const table of set[side]) found.push(await moment(table, width));
    return found;
  };
  const forms = { ancestor: await moments('ancestor'), locked: await moments('locked') };
  const pairs: Pair[][] = [];
  for (const set of sampled) {
    const mine = await invariants(set.ancestor, forms.ancestor, width);
    const theirs = await invariants(set.locked, forms.locked, width);
    sameScale(mine, theirs);
    pairs.push(mutual(await nearestRows(mine.values, theirs.values, mine.count), TRUSTED, most));
  }
  return pairs;
}

/** Pairs that are each other's nearest: the clearest `share` of them, and no more than `most`. In the order of items. */
function mutual({ best, ratio, back }: Matches, share: number, most: number): Pair[] {
  const pairs = Array.from(best, (other, item) => ({ item, other })).filter(({ item, other }) => back[other] === item);
  pairs.sort((a, b) => ratio[a.item]! - ratio[b.item]!);
  return pairs.slice(0, Math.min(most, Math.ceil(share * pairs.length))).sort((a, b) => a.item - b.item);
}

function samePairs(a: readonly Pair[], b: readonly Pair[]): boolean {
  return a.length === b.length && a.every(({ item, other }, i) => item === b[i]!.item && other === b[i]!.other);
}

/** Rows of pairs by set and part, and directions by set and part that count for nothing. */
type Paired = readonly (readonly { readonly from: Float32Array; readonly to: Float32Array }[])[];
type LeftOut = readonly (readonly (readonly Float32Array[])[])[];

function paired(sets: readonly ItemSet[], pairs: readonly (readonly Pair[])[], width: number): Paired {
  return sets.map(({ ancestor, locked }, s) => {
    const items = pairs[s]!.map(({ item }) => item);
    const others = pairs[s]!.map(({ other }) => other);
    return ancestor.map((table, part) => ({
      from: gathered(table, items, width),
      to: gathered(locked[part]!, others, width),
    }));
  });
}

async function turned(rows: Float32Array, q: Float64Array, width: number): Promise<Float32Array> {
  return multiply(rows, Float32Array.from(q), { rows: rows.length / width, inner: width, columns: width });
}

/** Procrustes over all pairs. Along directions that are left out, locked rows are taken to be what `before` makes of the ancestor's. */
async function solve(
  rows: Paired,
  before: Float64Array | null,
  leftOut: LeftOut,
  width: number,
): Promise<Float64Array> {
  const from: Float32Array[] = [];
  const to: Float32Array[] = [];
  for (const [s, parts] of rows.entries())
    for (const [part, pair] of parts.entries()) {
      const directions = leftOut[s]![part]!;
      from.push(pair.from);
      if (before === null || directions.length === 0) {
        to.push(pair.to);
        continue;
      }
      const expected = await turned(pair.from, before, width);
      const beside = removeDirections(expected.slice(), directions, width);
      const open = removeDirections(pair.to.slice(), directions, width);
      to.push(open.map((x, i) => x + expected[i]! - beside[i]!));
    }
  return turnBetween(from, to, width);
}

async function updates(rows: Paired, q: Float64Array, rank: number, width: number): Promise<LeftOut> {
  const found: Float32Array[][][] = [];
  for (const parts of rows) {
    const own: Float32Array[][] = [];
    for (const { from, to } of parts) {
      const expected = await turned(from, q, width);
      own.push(
        await sharedDirections(
          to.map((x, i) => x - expected[i]!),
          rank,
          width,
        ),
      );
    }
    found.push(own);
  }
  return found;
}

/** Both sides of a set in the locked basis, parts of an item side by side, without what is left out. */
async function sides(
  { ancestor, locked }: ItemSet,
  q: Float64Array,
  leftOut: LeftOut[number],
  width: number,
): Promise<{ mine: Float32Array; theirs: Float32Array }> {
  const mine: Float32Array[] = [];
  for (const [part, table] of ancestor.entries())
    mine.push(removeDirections(await turned(table, q, width), leftOut[part]!, width));
  const theirs = locked.map((table, part) => {
    const directions = leftOut[part]!;
    return directions.length === 0 ? table : removeDirections(table.slice(), directions, width);
  });
  return { mine: sideBySide(mine, width), theirs: sideBySide(theirs, width) };
}

async function distance(rows: Paired, q: Float64Array, width: number): Promise<number> {
  let apart = 0;
  let length = 0;
  for (const { from, to } of rows.flat()) {
    const expected = await turned(from, q, width);
    to.forEach((x, i) => {
      apart += (x - expected[i]!) ** 2;
      length += x * x;
    });
  }
  return length === 0 ? Number.POSITIVE_INFINITY : apart / length;
}
