// Weights as 8- or 4-bit integers with a scale per 32 neighbours along the input axis: the layout of the runtime's MatMulNBits.
// Zone: owner (writes them after locking) and edge (runs them). DESIGN sections 3 and 9.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits

export const blockSize = 32;

/** A weight [in, out] in blocks of its input axis, of which the last may be padded with zeros. */
export interface BlockWeight {
  /** [out, blocks, 32 · bits / 8]; of two 4-bit codes in a byte the first is the low half. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** [out, blocks]: w ≈ (code − zero) · scale. */
  readonly scales: Float32Array<ArrayBuffer>;
  /** 4 bits: [out, ⌈blocks / 2⌉], packed like codes. 8 bits: null, every zero is 128. */
  readonly zeros: Uint8Array<ArrayBuffer> | null;
}

/** Name of the zeros that belong to a weight stored in 4-bit blocks. */
export function zerosName(weight: string): string {
  return `${weight}.zero`;
}

/** Shapes of the three tensors of a BlockWeight. */
export function blockShapes(
  inputs: number,
  outputs: number,
  bits: 4 | 8,
): { readonly codes: readonly number[]; readonly scales: readonly number[]; readonly zeros: readonly number[] | null } {
  const blocks = Math.ceil(inputs / blockSize);
  return {
    codes: [outputs, blocks, (blockSize * bits) / 8],
    scales: [outputs, blocks],
    zeros: bits === 8 ? null : [outputs, Math.ceil(blocks / 2)],
  };
}

/** The even steps that a block's weights are rounded to: w ≈ (code − zero) · scale. */
export interface BlockRange {
  /** As stored: float32. */
  readonly scale: number;
  readonly zero: number;
}

/** A BlockWeight being filled, block by block and code by code. */
export class BlockWriter implements BlockWeight {
  readonly codes: Uint8Array<ArrayBuffer>;
  readonly scales: Float32Array<ArrayBuffer>;
  readonly zeros: Uint8Array<ArrayBuffer> | null;
  readonly bits: 4 | 8;
  readonly #blocks: number;

  constructor(inputs: number, outputs: number, bits: 4 | 8) {
    this.bits = bits;
    this.#blocks = Math.ceil(inputs / blockSize);
    this.codes = new Uint8Array((outputs * this.#blocks * blockSize * bits) / 8);
    this.scales = new Float32Array(outputs * this.#blocks);
    this.zeros = bits === 8 ? null : new Uint8Array(outputs * Math.ceil(this.#blocks / 2));
  }

  setRange(block: number, column: number, { scale, zero }: BlockRange): void {
    this.scales[column * this.#blocks + block] = scale;
    if (this.zeros === null) return;
    this.zeros[column * Math.ceil(this.#blocks / 2) + (block >> 1)]! |= zero << (4 * (block & 1));
  }

  /** Once for each input `row` of a column. */
  setCode(row: number, column: number, code: number): void {
    const at = column * this.#blocks * blockSize + row;
    if (this.bits === 8) this.codes[at] = code;
    else this.codes[at >> 1]! |= code << (4 * (at & 1));
  }
}

/** The code nearest to x. */
export function nearestCode(x: number, { scale, zero }: BlockRange, bits: 4 | 8): number {
  const steps = Math.round(scale === 0 ? 0 : x * (1 / scale));
  return bits === 8 ? 128 + Math.max(-127, Math.min(127, steps)) : Math.max(0, Math.min(15, steps + zero));
}

/** `weight` [inputs, outputs] row-major, finite: every element to its nearest code. */
export function quantiseBlocks(weight: Float32Array, inputs: number, outputs: number, bits: 4 | 8): BlockWeight {
  const written = new BlockWriter(inputs, outputs, bits);
  const values = new Float32Array(blockSize);
  for (let first = 0; first < inputs; first += blockSize) {
    // What pads the last block lies on any range.
    values.fill(0);
    for (let column = 0; column < outputs; column += 1) {
      for (let i = 0; i < blockSize; i += 1)
        values[i] = first + i < inputs ? weight[(first + i) * outputs + column]! : 0;
      const range = bestRange(values, bits);
      written.setRange(first / blockSize, column, range);
      for (let i = 0; i < blockSize; i += 1) written.setCode(first + i, column, nearestCode(values[i]!, range, bits));
    }
  }
  return written;
}

/** The weight [inputs, outputs] that codes stand for. */
export function dequantiseBlocks(
  { codes, scales, zeros }: BlockWeight,
  inputs: number,
  outputs: number,
): Float32Array<ArrayBuffer> {
  const blocks = Math.ceil(inputs / blockSize);
  const nibble = (bytes: Uint8Array, at: number): number => (bytes[at >> 1]! >> (4 * (at & 1))) & 15;
  const weight = new Float32Array(inputs * outputs);
  for (let column = 0; column < outputs; column += 1) {
    const zeroAt = column * 2 * Math.ceil(blocks / 2);
    for (let row = 0; row < inputs; row += 1) {
      const block = Math.floor(row / blockSize);
      const at = column * blocks * blockSize + row;
      const steps = zeros === null ? codes[at]! - 128 : nibble(codes, at) - nibble(zeros, zeroAt + block);
      weight[row * outputs + column] = steps * scales[column * blocks + block]!;
    }
  }
  return weight;
}

/** Shares of the block's range to try: with 16 steps, clipping the ends a little often costs less than it wins. */
const shares = [1, 0.92, 0.84, 0.76, 0.68];

/** Ranges that may suit a block's `values` [32], one for 8 bits: up to the largest value. */
export function rangesToTry(values: Float32Array, bits: 4 | 8): BlockRange[] {
  let [low, high] = [0, 0];
  for (let i = 0; i < blockSize; i += 1) {
    low = Math.min(low, values[i]!);
    high = Math.max(high, values[i]!);
  }
  if (bits === 8) return [{ scale: Math.fround(Math.max(-low, high) / 127), zero: 128 }];
  return shares.map((share) => {
    const scale = Math.fround((share * (high - low)) / 15) || 1;
    return { scale, zero: Math.max(0, Math.min(15, Math.round((-share * low) / scale))) };
  });
}

/** The range with the least squared error of a block's `values` [32], each rounded to its nearest code. */
function bestRange(values: Float32Array, bits: 4 | 8): BlockRange {
  const ranges = rangesToTry(values, bits);
  const errors = ranges.map((range) =>
    values.reduce((sum, x) => sum + (x - (nearestCode(x, range, bits) - range.zero) * range.scale) ** 2, 0),
  );
  return ranges[errors.indexOf(Math.min(...errors))]!;
}
