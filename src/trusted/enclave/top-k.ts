// Combines a head computed in column tiles of the vocabulary: exact top-k log-probabilities with the log-softmax over all of it.
// Zone: trusted. DESIGN section 4. Each tile gives its own k largest logits and the logarithm of its sum of exponentials.

/** What the graph of one tile gives for some rows. */
export interface TileResult {
  /** [rows, k] logits by falling value, k of this tile. */
  readonly logits: Float32Array;
  /** [rows, k] columns within the tile. */
  readonly ids: Int32Array;
  /** [rows] log Σ exp over the tile's logits. */
  readonly logSums: Float32Array;
}

/** Running top-k of `rows` rows over the tiles seen so far. Give tiles in rising order: of equal logits the lower id comes first. */
export class TopKRows {
  readonly rows: number;
  readonly k: number;
  /** [rows, k]; while tiles come in, logits. */
  readonly #values: Float32Array<ArrayBuffer>;
  readonly #ids: Int32Array<ArrayBuffer>;
  readonly #logSums: Float64Array;
  readonly #mergedValues: Float32Array;
  readonly #mergedIds: Int32Array;

  constructor(rows: number, k: number) {
    this.rows = rows;
    this.k = k;
    this.#values = new Float32Array(rows * k).fill(Number.NEGATIVE_INFINITY);
    this.#ids = new Int32Array(rows * k).fill(-1);
    this.#logSums = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY);
    this.#mergedValues = new Float32Array(k);
    this.#mergedIds = new Int32Array(k);
  }

  /** Adds a tile's result for the rows from `firstRow` on; `startId` is the tile's first column. */
  add(tile: TileResult, firstRow: number, startId: number): void {
    const rows = tile.logSums.length;
    const width = tile.logits.length / rows;
    for (let row = 0; row < rows; row += 1) {
      this.#merge(tile, row * width, width, (firstRow + row) * this.k, startId);
      this.#logSums[firstRow + row] = logAddExp(this.#logSums[firstRow + row]!, tile.logSums[row]!);
    }
  }

  /** ids and log-probabilities [rows, k] by falling value; call it once, after the last tile. */
  finish(): { readonly ids: Int32Array<ArrayBuffer>; readonly logprobs: Float32Array<ArrayBuffer> } {
    for (let row = 0, i = 0; row < this.rows; row += 1)
      for (const end = i + this.k; i < end; i += 1) this.#values[i]! -= this.#logSums[row]!;
    return { ids: this.#ids, logprobs: this.#values };
  }

  // The k largest of two falling lists.
  #merge(tile: TileResult, from: number, width: number, at: number, startId: number): void {
    const { k } = this;
    if (!(tile.logits[from]! > this.#values[at + k - 1]!)) return;
    let [mine, theirs] = [0, 0];
    for (let i = 0; i < k; i += 1) {
      if (theirs < width && tile.logits[from + theirs]! > this.#values[at + mine]!) {
        this.#mergedValues[i] = tile.logits[from + theirs]!;
        this.#mergedIds[i] = startId + tile.ids[from + theirs]!;
        theirs += 1;
      } else {
        this.#mergedValues[i] = this.#values[at + mine]!;
        this.#mergedIds[i] = this.#ids[at + mine]!;
        mine += 1;
      }
    }
    this.#values.set(this.#mergedValues, at);
    this.#ids.set(this.#mergedIds, at);
  }
}

function logAddExp(a: number, b: number): number {
  const largest = Math.max(a, b);
  return largest === Number.NEGATIVE_INFINITY
    ? largest
    : largest + Math.log(Math.exp(a - largest) + Math.exp(b - largest));
}
