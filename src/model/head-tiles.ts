// Cuts the head into column tiles of the vocabulary. Zone: owner. DESIGN section 4.

/** Columns [start, start + columns) of the vocabulary. */
export interface HeadTile {
  readonly start: number;
  readonly columns: number;
}

/** The vocabulary in as few tiles as `maxColumns` allows, of sizes that differ by at most one. */
export function headTiles(vocabSize: number, maxColumns: number): HeadTile[] {
  const count = Math.ceil(vocabSize / maxColumns);
  return Array.from({ length: count }, (_, i) => {
    const start = Math.floor((i * vocabSize) / count);
    return { start, columns: Math.floor(((i + 1) * vocabSize) / count) - start };
  });
}
