// Row order of query and key projections: RoPE on adjacent pairs (llama2.c, GGUF) ↔ RoPE on half-split pairs (Hugging Face).
// Zone: edge and owner.

/**
 * Reorders [heads × headDim, width] rows: row 2j+i of a head becomes row i·headDim/2 + j. Use width 1 for a bias.
 * Returns a new array.
 */
export function adjacentToHalfSplit(rows: Float32Array, headDim: number, width: number): Float32Array {
  const out = new Float32Array(rows.length);
  const half = headDim / 2;
  const count = rows.length / width;
  for (let row = 0; row < count; row++) {
    const within = row % headDim;
    const target = row - within + (within & 1) * half + (within >> 1);
    out.set(rows.subarray(row * width, (row + 1) * width), target * width);
  }
  return out;
}
