// A head from released rows, all tokens at once: log p(v) = h·w_v − z(h) leaves z unknown, so each row counts by its differences from the
// row's mean. Zone: owner (as attacker). Conjugate gradients on the normal equations (Hestenes and Stiefel 1952), in coordinates in which
// hidden states have unit covariance and every token is scaled by its rows: one Cholesky factor for all tokens, a few dozen rounds.
// A common vector added to all w_v changes no probability and stays as `start` has it.
import type { TeacherRows } from '../edge/cache/rows.js';
import { type ChosenRows, chooseRows } from './choose-rows.js';
import { cholesky, solveLower, solveUpper, timesUpper } from './least-squares.js';

/** Hidden states that went into the head, [rows, width], and the rows that came out. */
export interface HeadRows {
  readonly headInput: Float32Array;
  readonly released: TeacherRows;
}

export interface FitHeadOptions {
  readonly ridge?: number;
  readonly iterations?: number;
  /** Also learn from rows that do not name a token: there it is about as likely as the row's remaining mass leaves room for. */
  readonly unnamed?: boolean;
}

/** Of the mean square of hidden states: what is added in every direction before the factorisation, so that none is blown up. */
const DAMPING = 1e-6;
/** Equations per unknown and token that are used; further rows that name only such tokens are left out. */
const EQUATIONS = 16;
/** Of an equation about a token that a row does not name. */
const UNNAMED_WEIGHT = 0.1;
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
  const factor = whitening(chosen.hidden, width);
  const { hidden } = chosen;
  for (let at = 0; at < hidden.length; at += width) solveLower(factor, hidden.subarray(at, at + width));
  const named = namedTokens(chosen, vocabulary);
  const system = new System(chosen, named, width, unnamed);
  const x = new Float64Array(system.size);
  named.tokens.forEach((token, i) => {
    x.set(timesUpper(factor, start.subarray(token * width, (token + 1) * width)), i * width);
  });
  solve(system, x, ridge, iterations);
  const head = start.slice();
  const vector = (i: number): Float64Array => solveUpper(factor, x.slice(i * width, (i + 1) * width));
  if (unnamed) {
    const others = vector(named.tokens.length);
    for (let token = 0; token < vocabulary; token += 1) head.set(others, token * width);
  }
  named.tokens.forEach((token, i) => {
    head.set(vector(i), token * width);
  });
  return head;
}

/** Lower factor L of the hidden states' damped second moment: L⁻¹·h has unit covariance, and h·w = (L⁻¹·h)·(Lᵀ·w). */
function whitening(hidden: Float32Array, width: number): Float64Array {
  const moment = new Float64Array(width * width);
  const rows = hidden.length / width;
  for (let at = 0; at < hidden.length; at += width)
    for (let i = 0; i < width; i += 1) {
      const x = hidden[at + i]! / rows;
      for (let j = 0; j <= i; j += 1) moment[i * width + j]! += x * hidden[at + j]!;
    }
  let trace = 0;
  for (let i = 0; i < width; i += 1) trace += moment[i * width + i]!;
  for (let i = 0; i < width; i += 1) moment[i * width + i]! += (DAMPING * trace) / width;
  return cholesky(moment, width);
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

function solve(system: System, x: Float64Array, ridge: number, iterations: number): void {
  const { size, width, weights } = system;
  const residual = system.apply(x, true, new Float64Array(size));
  const direction = new Float64Array(size);
  const moved = new Float64Array(size);
  // ⟨a, b⟩ with every token's vector scaled by its rows.
  const scaled = (a: Float64Array, b: Float64Array): number => {
    let sum = 0;
    for (let v = 0; v < weights.length; v += 1) {
      let own = 0;
      for (let i = v * width; i < (v + 1) * width; i += 1) own += a[i]! * b[i]!;
      sum += own / (weights[v]! + ridge);
    }
    return sum;
  };
  let before = scaled(residual, residual);
  const enough = before * 1e-14;
  let kept = 0;
  for (let round = 0; round < iterations && before > enough; round += 1) {
    for (let i = 0; i < size; i += 1)
      direction[i] = residual[i]! / (weights[Math.floor(i / width)]! + ridge) + kept * direction[i]!;
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
    const after = scaled(residual, residual);
    kept = after / before;
    before = after;
  }
}
