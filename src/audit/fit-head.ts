// A head from released rows, all tokens at once: log p(v) = h·w_v − z(h) leaves z unknown, so each row counts by its differences from the
// row's mean. Zone: owner (as attacker). Conjugate gradients on the normal equations (Hestenes and Stiefel 1952), in the eigenbasis of the
// hidden states' second moment: there one diagonal, by direction and by a token's number of rows, stands in for every token's own Gram
// matrix, and some dozen rounds do. A common vector added to all w_v changes no probability and stays as `start` has it.
import type { TeacherRows } from '../edge/cache/rows.js';
import { timesTransposed } from './assemble.js';
import { type ChosenRows, chooseRows } from './choose-rows.js';
import { eigen } from './symmetric.js';

/** Hidden states that went into the head, [rows, width], and the rows that came out. */
export interface HeadRows {
  readonly headInput: Float32Array;
  readonly released: TeacherRows;
}

export interface FitHeadOptions {
  /** Weight of |w_v − start|², in mean squares of a hidden state's coordinate. */
  readonly ridge?: number;
  readonly iterations?: number;
  /** Also learn from rows that do not name a token: there it is about as likely as the row's remaining mass leaves room for. */
  readonly unnamed?: boolean;
}

/** Equations per unknown and token that are used; further rows that name only such tokens are left out. */
const EQUATIONS = 16;
/** Of an equation about a token that a row does not name. */
const UNNAMED_WEIGHT = 0.03;
/** Rows per token that such equations are taken from, at most; and per row at most half as many of them as it names tokens. */
const UNNAMED_ROWS = 64;

/** `start` is [vocabulary, width], and so is the result. Tokens that no row names keep their start; with `unnamed` they share one vector. */
export function fitHead(
  start: Float32Array,
  width: number,
  asked: readonly HeadRows[],
  { ridge = 1e-6, iterations = 300, unnamed = false }: FitHeadOptions = {},
): Float32Array {
  const vocabulary = start.length / width;
  const chosen = chooseRows(asked, width, vocabulary, EQUATIONS * width);
  const { values, vectors } = eigen(secondMoment(chosen.hidden, width), width);
  const named = namedTokens(chosen, vocabulary);
  const hidden = timesTransposed(chosen.hidden, vectors, width);
  const system = new System({ ...chosen, hidden }, named, width, unnamed);
  const x = new Float64Array(system.size);
  const taken = named.tokens.map((token) => start.subarray(token * width, (token + 1) * width));
  taken.forEach((vector, i) => {
    x.set(timesTransposed(vector, vectors, width), i * width);
  });
  const meanSquare = values.reduce((sum, value) => sum + value, 0) / width;
  solve(system, x, values, ridge * meanSquare, iterations);
  const back = transposed(vectors, width);
  const solved = timesTransposed(Float32Array.from(x), back, width);
  const vector = (i: number): Float32Array => solved.subarray(i * width, (i + 1) * width);
  const head = start.slice();
  if (unnamed) for (let token = 0; token < vocabulary; token += 1) head.set(vector(named.tokens.length), token * width);
  named.tokens.forEach((token, i) => {
    head.set(vector(i), token * width);
  });
  return head;
}

/** Mean of hᵀ·h, [width, width]. */
function secondMoment(hidden: Float32Array, width: number): Float64Array {
  const moment = new Float64Array(width * width);
  const rows = hidden.length / width;
  for (let at = 0; at < hidden.length; at += width)
    for (let i = 0; i < width; i += 1) {
      const x = hidden[at + i]! / rows;
      for (let j = 0; j < width; j += 1) moment[i * width + j]! += x * hidden[at + j]!;
    }
  return moment;
}

function transposed(a: Float64Array, n: number): Float64Array {
  return Float64Array.from(a, (_, i) => a[(i % n) * n + Math.floor(i / n)]!);
}

/** Tokens that any row names, and the number of each among them by id (−1: not named). */
interface Named {
  readonly tokens: readonly number[];
  readonly place: Int32Array;
}

function namedTokens({ ids }: ChosenRows, vocabulary: number): Named {
  const place = new Int32Array(vocabulary).fill(-1);
  const tokens: number[] = [];
  for (const id of ids) {
    if (place[id]! >= 0) continue;
    place[id] = tokens.length;
    tokens.push(id);
  }
  return { tokens, place };
}

/** The equations of all rows. Unknowns are vectors [width], one per named token and, with `unnamed`, one for all others together. */
class System {
  readonly size: number;
  /** Sum of weights by unknown vector. */
  readonly weights: Float64Array;
  readonly width: number;
  readonly #rows: ChosenRows;
  readonly #tokens: number;
  readonly #place: Int32Array;
  /** Every row asks for each `stride`-th token that it does not name; 0: for none. */
  readonly #stride: number;
  // Of the row under way: unknowns, their weights and values; which row named a token last.
  readonly #unknowns: Int32Array;
  readonly #counted: Float64Array;
  readonly #values: Float64Array;
  readonly #namedIn: Int32Array;

  constructor(rows: ChosenRows, { tokens, place }: Named, width: number, unnamed: boolean) {
    this.width = width;
    this.#rows = rows;
    this.#tokens = tokens.length;
    this.#place = place;
    const most = Math.max(1, Math.floor(rows.k / 2));
    this.#stride = unnamed ? Math.max(1, Math.floor(rows.rows / UNNAMED_ROWS), Math.ceil(tokens.length / most)) : 0;
    const entries = rows.k + tokens.length + 1;
    this.#unknowns = new Int32Array(entries);
    this.#counted = new Float64Array(entries).fill(1, 0, rows.k).fill(UNNAMED_WEIGHT, rows.k);
    this.#values = new Float64Array(entries);
    this.#namedIn = new Int32Array(tokens.length).fill(-1);
    this.size = (tokens.length + (unnamed ? 1 : 0)) * width;
    this.weights = new Float64Array(this.size / width);
    for (let row = 0; row < rows.rows; row += 1) {
      const count = this.#entriesOf(row);
      for (let i = 0; i < count; i += 1) this.weights[this.#unknowns[i]!]! += this.#counted[i]!;
    }
  }

  /** Σ over the rows of weight·deviation·h by unknown, deviations of h·x, or with `against` of what x leaves unexplained. */
  apply(x: Float64Array, against: boolean, out: Float64Array): Float64Array {
    const { width } = this;
    const { rows, k, hidden, logprobs, elsewhere } = this.#rows;
    const unknowns = this.#unknowns;
    const values = this.#values;
    const counted = this.#counted;
    out.fill(0);
    for (let row = 0; row < rows; row += 1) {
      const count = this.#entriesOf(row);
      const from = row * width;
      let sum = 0;
      let weight = 0;
      for (let i = 0; i < count; i += 1) {
        const at = unknowns[i]! * width;
        let value = 0;
        for (let c = 0; c < width; c += 1) value += hidden[from + c]! * x[at + c]!;
        if (against) value = (i < k ? logprobs[row * k + i]! : elsewhere[row]!) - value;
        values[i] = value;
        sum += counted[i]! * value;
        weight += counted[i]!;
      }
      const mean = sum / weight;
      for (let i = 0; i < count; i += 1) {
        const at = unknowns[i]! * width;
        const value = counted[i]! * (values[i]! - mean);
        for (let c = 0; c < width; c += 1) out[at + c]! += value * hidden[from + c]!;
      }
    }
    return out;
  }

  #entriesOf(row: number): number {
    const { k, ids } = this.#rows;
    for (let i = 0; i < k; i += 1) {
      const token = this.#place[ids[row * k + i]!]!;
      this.#unknowns[i] = token;
      this.#namedIn[token] = row;
    }
    if (this.#stride === 0) return k;
    let count = k;
    for (let token = row % this.#stride; token < this.#tokens; token += this.#stride)
      if (this.#namedIn[token] !== row) this.#unknowns[count++] = token;
    this.#unknowns[count++] = this.#tokens;
    return count;
  }
}

/** `moment` [width]: mean square of hidden states by coordinate. */
function solve(system: System, x: Float64Array, moment: Float64Array, ridge: number, iterations: number): void {
  const { size, width, weights } = system;
  const residual = system.apply(x, true, new Float64Array(size));
  const direction = new Float64Array(size);
  const moved = new Float64Array(size);
  const scale = (i: number): number => {
    const c = i % width;
    return 1 / (weights[(i - c) / width]! * Math.max(0, moment[c]!) + ridge);
  };
  const scaledSquare = (): number => {
    let sum = 0;
    for (let i = 0; i < size; i += 1) sum += residual[i]! * residual[i]! * scale(i);
    return sum;
  };
  let before = scaledSquare();
  const enough = before * 1e-14;
  let kept = 0;
  for (let round = 0; round < iterations && before > enough; round += 1) {
    for (let i = 0; i < size; i += 1) direction[i] = residual[i]! * scale(i) + kept * direction[i]!;
    system.apply(direction, false, moved);
    let curvature = 0;
    for (let i = 0; i < size; i += 1) {
      moved[i]! += ridge * direction[i]!;
      curvature += direction[i]! * moved[i]!;
    }
    const step = before / curvature;
    for (let i = 0; i < size; i += 1) {
      x[i]! += step * direction[i]!;
      residual[i]! -= step * moved[i]!;
    }
    const after = scaledSquare();
    kept = after / before;
    before = after;
  }
}
