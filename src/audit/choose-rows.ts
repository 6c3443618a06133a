// Which released rows a head is fitted to: enough for every token, not more. Zone: owner (as attacker). Frequent tokens are named by nearly
// every row, rare ones by few, so a row is taken while it names a token that has not had its share.
import type { HeadRows } from './fit-head.js';

export interface ChosenRows {
  readonly rows: number;
  readonly k: number;
  /** [rows, width], a copy. */
  readonly hidden: Float32Array;
  /** [rows, k]. */
  readonly ids: Int32Array;
  readonly logprobs: Float32Array;
  /** [rows], log-probability of a token that is not named if all of them were equally likely. */
  readonly elsewhere: Float32Array;
}

/** The first rows of `asked`, in its order, that name a token which fewer than `perToken` rows before have named. */
export function chooseRows(
  asked: readonly HeadRows[],
  width: number,
  vocabulary: number,
  perToken: number,
): ChosenRows {
  const k = asked.find(({ released }) => released.rows > 0)?.released.k ?? 1;
  const named = new Int32Array(vocabulary);
  const chosen: Int32Array[] = asked.map(({ released }) => {
    const rows: number[] = [];
    for (let row = 0; row < released.rows; row += 1) {
      const ids = released.tokenIds.subarray(row * k, (row + 1) * k);
      if (ids.every((id) => named[id]! >= perToken)) continue;
      for (const id of ids) named[id]! += 1;
      rows.push(row);
    }
    return Int32Array.from(rows);
  });
  const rows = chosen.reduce((sum, { length }) => sum + length, 0);
  const hidden = new Float32Array(rows * width);
  const ids = new Int32Array(rows * k);
  const logprobs = new Float32Array(rows * k);
  const elsewhere = new Float32Array(rows);
  let at = 0;
  asked.forEach(({ headInput, released }, i) => {
    for (const row of chosen[i]!) {
      hidden.set(headInput.subarray(row * width, (row + 1) * width), at * width);
      ids.set(released.tokenIds.subarray(row * k, (row + 1) * k), at * k);
      logprobs.set(released.logprobs.subarray(row * k, (row + 1) * k), at * k);
      elsewhere[at] = released.tail[row]! - Math.log(Math.max(1, vocabulary - k));
      at += 1;
    }
  });
  return { rows, k, hidden, ids, logprobs, elsewhere };
}
