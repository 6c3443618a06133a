// Completing released rows: log p(v) = h·w_v − z is a matrix of low rank of which each row shows only k entries, and other rows show
// others. Zone: owner (as attacker: any licensed user). Alternating least squares with a ridge that shrinks from fit to fit (soft-impute,
// Mazumder, Hastie and Tibshirani 2010; softImpute-ALS, arXiv 1410.2596); entries held back choose where to stop.
import { RandomStream } from '../edge/data/random.js';
import { productSpace } from './row-space.js';
import { cholesky, solveDefinite } from './symmetric.js';

/** `rows` rows of `k` entries each; ids are below `vocabSize`. */
export interface Entries {
  readonly rows: number;
  readonly k: number;
  readonly tokenIds: Int32Array;
  /** Nats. */
  readonly logprobs: Float32Array;
  readonly vocabSize: number;
}

export interface CompleteOptions {
  /** The hidden width: unknowns of a row beside its normaliser. At most k − 2 are used, so that one entry can be held back. */
  readonly width: number;
  readonly seed: number;
  /** Of the released values, a standard deviation in nats: fits do not go below it. */
  readonly noise: number;
}

export interface Completion {
  /** Falling: root mean square that each direction adds to a row's entries, nats. */
  readonly scales: Float64Array;
  /** Orthonormal rows [scales.length, vocabulary]; tokens that no row named are 0. */
  readonly span: Float64Array;
  /** Root mean square on entries held back, nats. */
  readonly error: number;
}

const HELD_BACK = 0.1;
const FIRST_RIDGE = 10;
const LAST_RIDGE = 1e-6;
/** Of one ridge to the next. */
const SHRINK = 0.4;
/** Alternations in each fit. */
const SWEEPS = 3;
/** Fits without a better error before giving up. */
const PATIENCE = 3;
/** Tokens per row that it does not name: they lie below the least it names. Where rows name many, more say little. */
const MOST_BOUNDS = 32;
/** Minutes on one core: directions, and products per alternation; rows beyond that are left out. */
const MOST_DIRECTIONS = 96;
const WORK = 1e9;

/** The directions that the completed rows span. Throws RangeError where a row has fewer than three entries. */
export function completeRows(entries: Entries, { width, seed, noise }: CompleteOptions): Completion {
  const { k, vocabSize } = entries;
  const rank = Math.min(width, k - 2, MOST_DIRECTIONS);
  if (rank < 1) throw new RangeError(`rows of ${k} entries cannot be completed`);
  const bounds = Math.min(k, MOST_BOUNDS, vocabSize - k);
  const rows = Math.min(entries.rows, Math.ceil(WORK / ((k + bounds) * rank ** 2)));
  const random = new RandomStream('audit/complete', seed);
  const known = constraints({ ...entries, rows }, bounds, random);
  const tokens = Float64Array.from({ length: vocabSize * rank }, () => random.normal() / Math.sqrt(rank));
  const hidden = new Float64Array(rows * (rank + 1));
  const state: Factors = { rank, tokens, hidden };
  let best = { rank, tokens: tokens.slice(), hidden: hidden.slice() };
  let least = Number.POSITIVE_INFINITY;
  let worse = 0;
  for (let ridge = FIRST_RIDGE; ridge >= LAST_RIDGE && worse < PATIENCE; ridge *= SHRINK) {
    for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
      fitRows(known, state, ridge);
      fitTokens(known, state, ridge);
    }
    fitRows(known, state, ridge);
    const error = errorOf(known, state);
    if (error < 0.999 * least) {
      best = { rank, tokens: tokens.slice(), hidden: hidden.slice() };
      least = error;
      worse = 0;
    } else worse += 1;
    if (error <= noise) break;
  }
  const seen = new Uint8Array(vocabSize);
  for (const id of entries.tokenIds.subarray(0, rows * k)) seen[id] = 1;
  return { ...productSpace(best, rows, seen), error: least };
}

/** Kinds of places; the others are measured values. */
const [HELD, BOUND] = [1, 2];

/** What is known of each row: `perRow` tokens with a value, or a bound from above. */
interface Constraints {
  readonly rows: number;
  readonly perRow: number;
  readonly ids: Int32Array;
  readonly values: Float64Array;
  readonly kinds: Uint8Array;
  /** Places of what is not held back, token by token. */
  readonly places: Int32Array;
  /** [vocabulary + 1] into `places`. */
  readonly starts: Int32Array;
}

function constraints(
  { rows, k, tokenIds, logprobs, vocabSize }: Entries,
  bounds: number,
  random: RandomStream,
): Constraints {
  const perRow = k + bounds;
  const ids = new Int32Array(rows * perRow);
  const values = new Float64Array(rows * perRow);
  const kinds = new Uint8Array(rows * perRow);
  const back = Math.max(1, Math.floor(HELD_BACK * Math.min(k, 100)));
  const named = new Int32Array(vocabSize).fill(-1);
  for (let row = 0; row < rows; row += 1) {
    const at = row * perRow;
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < k; i += 1) {
      const id = tokenIds[row * k + i]!;
      const value = logprobs[row * k + i]!;
      ids[at + i] = id;
      values[at + i] = value;
      named[id] = row;
      least = Math.min(least, value);
    }
    for (let i = 0; i < back; i += 1) kinds[at + random.below(k)] = HELD;
    for (let i = k; i < perRow; i += 1) {
      let id = random.below(vocabSize);
      while (named[id] === row) id = random.below(vocabSize);
      named[id] = row;
      ids[at + i] = id;
      values[at + i] = least;
      kinds[at + i] = BOUND;
    }
  }
  return { rows, perRow, ids, values, kinds, ...byToken(ids, kinds, vocabSize) };
}

function byToken(ids: Int32Array, kinds: Uint8Array, vocabSize: number): Pick<Constraints, 'places' | 'starts'> {
  const starts = new Int32Array(vocabSize + 1);
  ids.forEach((id, place) => {
    if (kinds[place] !== HELD) starts[id + 1]! += 1;
  });
  for (let id = 0; id < vocabSize; id += 1) starts[id + 1]! += starts[id]!;
  const places = new Int32Array(starts[vocabSize]!);
  const next = starts.slice();
  ids.forEach((id, place) => {
    if (kinds[place] !== HELD) places[next[id]!++] = place;
  });
  return { places, starts };
}

interface Factors {
  readonly rank: number;
  /** [vocabulary, rank]. */
  readonly tokens: Float64Array;
  /** [rows, rank + 1], the last one the row's normaliser. */
  readonly hidden: Float64Array;
}

function fitRows(known: Constraints, state: Factors, ridge: number): void {
  const { rows, perRow, ids, values, kinds } = known;
  const { rank, tokens, hidden } = state;
  const n = rank + 1;
  const normal = new Float64Array(n * n);
  const x = new Float64Array(n);
  const right = new Float64Array(n);
  x[rank] = 1;
  for (let row = 0; row < rows; row += 1) {
    normal.fill(0);
    right.fill(0);
    for (let place = row * perRow; place < (row + 1) * perRow; place += 1) {
      if (kinds[place] === HELD || (kinds[place] === BOUND && predict(known, state, place) <= values[place]!)) continue;
      const at = ids[place]! * rank;
      for (let i = 0; i < rank; i += 1) x[i] = tokens[at + i]!;
      addEquation(normal, right, x, n, values[place]!);
    }
    for (let i = 0; i < rank; i += 1) normal[i * n + i]! += ridge;
    normal[n * n - 1]! += 1e-9;
    solveDefinite(cholesky(normal, n), n, right);
    hidden.set(right, row * n);
  }
}

function fitTokens(known: Constraints, state: Factors, ridge: number): void {
  const { perRow, values, kinds, places, starts } = known;
  const { rank, tokens, hidden } = state;
  const normal = new Float64Array(rank * rank);
  const x = new Float64Array(rank);
  const right = new Float64Array(rank);
  for (let id = 0; id + 1 < starts.length; id += 1) {
    if (starts[id] === starts[id + 1]) continue;
    normal.fill(0);
    right.fill(0);
    for (let i = starts[id]!; i < starts[id + 1]!; i += 1) {
      const place = places[i]!;
      if (kinds[place] === BOUND && predict(known, state, place) <= values[place]!) continue;
      const at = Math.floor(place / perRow) * (rank + 1);
      for (let c = 0; c < rank; c += 1) x[c] = hidden[at + c]!;
      addEquation(normal, right, x, rank, values[place]! - hidden[at + rank]!);
    }
    for (let c = 0; c < rank; c += 1) normal[c * rank + c]! += ridge;
    solveDefinite(cholesky(normal, rank), rank, right);
    tokens.set(right, id * rank);
  }
}

function predict({ perRow, ids }: Constraints, { rank, tokens, hidden }: Factors, place: number): number {
  const row = Math.floor(place / perRow) * (rank + 1);
  const token = ids[place]! * rank;
  let value = hidden[row + rank]!;
  for (let i = 0; i < rank; i += 1) value += hidden[row + i]! * tokens[token + i]!;
  return value;
}

/** x·w = target, onto the normal equations' lower triangle. */
function addEquation(normal: Float64Array, right: Float64Array, x: Float64Array, n: number, target: number): void {
  for (let i = 0; i < n; i += 1) {
    const xi = x[i]!;
    right[i]! += xi * target;
    for (let j = 0; j <= i; j += 1) normal[i * n + j]! += xi * x[j]!;
  }
}

/** Root mean square over the entries held back. */
function errorOf(known: Constraints, state: Factors): number {
  let squares = 0;
  let count = 0;
  known.kinds.forEach((kind, place) => {
    if (kind !== HELD) return;
    squares += (known.values[place]! - predict(known, state, place)) ** 2;
    count += 1;
  });
  return Math.sqrt(squares / count);
}
