// Widths of batches for examples of unequal length: few, so that few graphs are needed, and such that little is padding.
// Zone: edge. The best choice by dynamic programming over the lengths that occur, rounded up to multiples of 8.

/** Every width is a graph of its own in the runtime. */
const MOST_WIDTHS = 4;
/** Lengths are rounded more coarsely where more of them would occur. */
const MOST_LENGTHS = 256;

/**
 * At most four widths, ascending, the last one at least the longest length and at most `maxLength`. They minimise the positions of all
 * batches of `batchSize` rows, each batch holding examples of one width (the smallest that fits) and filled up with padding.
 */
export function chooseWidths(lengths: ArrayLike<number>, maxLength: number, batchSize: number): number[] {
  const step = 8 * Math.ceil(maxLength / 8 / MOST_LENGTHS);
  const counts = new Map<number, number>();
  for (let i = 0; i < lengths.length; i += 1) {
    const width = Math.min(maxLength, Math.ceil(lengths[i]! / step) * step);
    counts.set(width, (counts.get(width) ?? 0) + 1);
  }
  const widths = [...counts.keys()].sort((a, b) => a - b);
  const sums = [0];
  for (const width of widths) sums.push(sums.at(-1)! + counts.get(width)!);
  // Positions of the batches that hold the examples of widths[from] to widths[to].
  const cost = (from: number, to: number): number =>
    Math.ceil((sums[to + 1]! - sums[from]!) / batchSize) * batchSize * widths[to]!;

  // best[j]: least positions for the examples of widths[0] to widths[j - 1], and the widths that give them.
  let best = widths.map((_, to) => ({ cost: cost(0, to), chosen: [widths[to]!] }));
  for (let groups = 2; groups <= Math.min(MOST_WIDTHS, widths.length); groups += 1) {
    best = best.map((fewer, to) => {
      let least = fewer;
      for (let from = 1; from <= to; from += 1) {
        const total = best[from - 1]!.cost + cost(from, to);
        if (total < least.cost) least = { cost: total, chosen: [...best[from - 1]!.chosen, widths[to]!] };
      }
      return least;
    });
  }
  return best.at(-1)!.chosen;
}
