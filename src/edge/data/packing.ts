// Packs whole examples into rows of fixed length: best fit, longest first, in O(n log length).
// Zone: edge (DESIGN section 8; best-fit packing after Ding et al., arXiv 2404.10830). No example is cut or dropped.
import { MalformedError } from '../../trusted/wire/errors.js';

/** For every free space 0..capacity whether a row has it; finds the smallest free space that is at least n. */
class FreeSpaces {
  private readonly size: number;
  private readonly counts: Int32Array;

  constructor(capacity: number) {
    this.size = 2 ** Math.ceil(Math.log2(capacity + 1));
    this.counts = new Int32Array(2 * this.size);
  }

  add(space: number, change: 1 | -1): void {
    for (let node = this.size + space; node >= 1; node >>= 1) this.counts[node] = this.counts[node]! + change;
  }

  /** Smallest recorded space ≥ n, or -1. */
  atLeast(n: number): number {
    let node = this.size + n;
    if (this.counts[node]! > 0) return n;
    while (node > 1) {
      if ((node & 1) === 0 && this.counts[node + 1]! > 0) {
        node += 1;
        while (node < this.size) node = this.counts[2 * node]! > 0 ? 2 * node : 2 * node + 1;
        return node - this.size;
      }
      node >>= 1;
    }
    return -1;
  }
}

/**
 * Rows of example indices whose lengths sum to at most `capacity`; with `packing` false every example has its own row, in `order`.
 * `order` breaks ties between equal lengths; the number of rows does not depend on it. Throws MalformedError when an example is
 * longer than a row.
 */
export function packExamples(
  lengths: ArrayLike<number>,
  capacity: number,
  order: Int32Array,
  packing = true,
): number[][] {
  for (const example of order) requireFit(example, lengths[example]!, capacity);
  if (!packing) return Array.from(order, (example) => [example]);
  const longestFirst = Array.from(order).sort((a, b) => lengths[b]! - lengths[a]!);
  const spaces = new FreeSpaces(capacity);
  const rowsBySpace: number[][] = Array.from({ length: capacity + 1 }, () => []);
  const rows: number[][] = [];
  for (const example of longestFirst) {
    const length = lengths[example]!;
    const space = spaces.atLeast(length);
    const row = space < 0 ? rows.push([]) - 1 : rowsBySpace[space]!.pop()!;
    if (space >= 0) spaces.add(space, -1);
    const left = (space < 0 ? capacity : space) - length;
    rows[row]!.push(example);
    rowsBySpace[left]!.push(row);
    spaces.add(left, 1);
  }
  return rows;
}

function requireFit(example: number, length: number, capacity: number): void {
  if (length <= capacity) return;
  throw new MalformedError(
    'example-too-long',
    `example ${example} has ${length} tokens but a row holds ${capacity}; truncate or split it first`,
    { example, length, capacity },
  );
}
