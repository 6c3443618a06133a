// Cuts the head into column tiles of the vocabulary. Zone: owner. DESIGN section 4.

/** Columns [start, start + columns) of the vocabulary. */
export interface HeadTile {
  readonly start: number;
  readonly columns: number;
}

/** The vocabulary in as few tiles as `maxColumns` allows, all of one size but the last, which may be smaller. */
export function headTiles(vocabSize: number, maxColumns: number): HeadTile[] {
  const count = Math.ceil(vocabSize / maxColumns);
  const size = Math.ceil(vocabSize / count);
  return Array.from({ length: count }, (_, i) => {
    return { start: i * size, columns: Math.min(size, vocabSize - i * size) };
  });
}
