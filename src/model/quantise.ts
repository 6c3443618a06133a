// Weights as int8: symmetric, one scale per output column. Zone: owner (writes them), edge (reference runs). DESIGN section 4.
// The scale of a column is the one of least squared error among a few below max|w|/127: clipping a lone largest element is often better.

/** A weight [in, out] as int8 and the factor of each of its columns. */
export interface Int8Weight {
  /** [in, out] row-major, −127 … 127. */
  readonly data: Int8Array<ArrayBuffer>;
  /** [out]: w ≈ data · scale. */
  readonly scales: Float32Array<ArrayBuffer>;
}

/** `weight` [inputs, outputs] row-major, finite. The error of an element that is not clipped is at most half its column's scale. */
export function quantiseColumns(weight: Float32Array, inputs: number, outputs: number): Int8Weight {
  const scales = columnScales(weight, inputs, outputs);
  const inverse = scales.map((scale) => (scale === 0 ? 0 : 1 / scale));
  const data = new Int8Array(weight.length);
  for (let i = 0; i < inputs; i += 1) {
    const row = i * outputs;
    for (let j = 0; j < outputs; j += 1) {
      const code = Math.round(weight[row + j]! * inverse[j]!);
      data[row + j] = Math.max(-127, Math.min(127, code));
    }
  }
  return { data, scales };
}

function columnScales(weight: Float32Array, inputs: number, outputs: number): Float32Array<ArrayBuffer> {
  const scales = new Float32Array(outputs);
  for (let i = 0; i < inputs; i += 1) {
    const row = i * outputs;
    for (let j = 0; j < outputs; j += 1) {
      const size = Math.abs(weight[row + j]!);
      if (size > scales[j]!) scales[j] = size;
    }
  }
  for (let j = 0; j < outputs; j += 1) scales[j]! /= 127;
  return scales;
}
