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

/** `weight` [inputs, outputs] row-major, finite. */
export function quantiseBlocks(weight: Float32Array, inputs: number, outputs: number, bits: 4 | 8): BlockWeight {
  const blocks = Math.ceil(inputs / blockSize);
  const zeroBytes = Math.ceil(blocks / 2);
  const codes = new Uint8Array((outputs * blocks * blockSize * bits) / 8);
  const scales = new Float32Array(outputs * blocks);
  const zeros = bits === 8 ? null : new Uint8Array(outputs * zeroBytes);
  const values = new Float32Array(blockSize);
  for (let block = 0; block < blocks; block += 1) {
    const rows = Math.min(blockSize, inputs - block * blockSize);
    values.fill(0);
    for (let column = 0; column < outputs; column += 1) {
      for (let i = 0; i < rows; i += 1) values[i] = weight[(block * blockSize + i) * outputs + column]!;
      const at = column * blocks + block;
      if (zeros === null) {
        scales[at] = largest(values) / 127;
        write8(values, scales[at]!, codes, at * blockSize);
      } else {
        const { scale, zero } = bestRange(values);
        scales[at] = scale;
        zeros[column * zeroBytes + (block >> 1)]! |= zero << (4 * (block & 1));
        write4(values, scale, zero, codes, (at * blockSize) / 2);
      }
    }
  }
  return { codes, scales, zeros };
}

function largest(values: Float32Array): number {
  let found = 0;
  for (let i = 0; i < values.length; i += 1) found = Math.max(found, Math.abs(values[i]!));
  return found;
}

function write8(values: Float32Array, scale: number, codes: Uint8Array, at: number): void {
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < blockSize; i += 1)
    codes[at + i] = 128 + Math.max(-127, Math.min(127, Math.round(values[i]! * inverse)));
}

function write4(values: Float32Array, scale: number, zero: number, codes: Uint8Array, at: number): void {
  const inverse = 1 / scale;
  for (let i = 0; i < blockSize; i += 2)
    codes[at + i / 2] = code4(values[i]! * inverse, zero) | (code4(values[i + 1]! * inverse, zero) << 4);
}

function code4(x: number, zero: number): number {
  return Math.max(0, Math.min(15, Math.round(x) + zero));
}

/** Shares of the block's range to try: with 16 steps, clipping the ends a little often costs less than it wins. */
const ranges = [1, 0.92, 0.84];

// The scale and zero of least squared error among the ranges.
function bestRange(values: Float32Array): { readonly scale: number; readonly zero: number } {
  let [low, high] = [0, 0];
  for (let i = 0; i < blockSize; i += 1) {
    low = Math.min(low, values[i]!);
    high = Math.max(high, values[i]!);
  }
  // As the stored scale will be: float32.
  let best = { scale: Math.fround((high - low) / 15) || 1, zero: 8 };
  let least = Number.POSITIVE_INFINITY;
  for (const range of ranges) {
    const scale = Math.fround((range * (high - low)) / 15) || 1;
    const zero = Math.max(0, Math.min(15, Math.round((-range * low) / scale)));
    const inverse = 1 / scale;
    let error = 0;
    for (let i = 0; i < blockSize; i += 1) {
      const x = values[i]!;
      error += (x - (code4(x * inverse, zero) - zero) * scale) ** 2;
    }
    if (error < least) {
      least = error;
      best = { scale, zero };
    }
  }
  return best;
}
