// Conversion between float32 and the float formats checkpoints store: F32, F16 and BF16, all little endian.
// Zone: edge and owner. Narrowing rounds to nearest, ties to even, as PyTorch does.

/** Float formats that safetensors and GGUF files share. */
export type FloatFormat = 'F32' | 'F16' | 'BF16';

export const floatFormatBytes: Readonly<Record<FloatFormat, number>> = { F32: 4, F16: 2, BF16: 2 };

const bits = new Uint32Array(1);
const single = new Float32Array(bits.buffer);

let halfTable: Float32Array | undefined;

/** All 65,536 halves as float32, built on first use (256 KiB). */
function halves(): Float32Array {
  if (halfTable !== undefined) return halfTable;
  const table = new Float32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const magnitude =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction === 0
            ? Number.POSITIVE_INFINITY
            : Number.NaN
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[half] = half & 0x8000 ? -magnitude : magnitude;
  }
  halfTable = table;
  return table;
}

/** One half-precision number, given as its 16 bits. */
export function halfToNumber(half: number): number {
  return halves()[half & 0xffff]!;
}

/** The 16 bits of the half nearest to `value`. */
export function numberToHalf(value: number): number {
  single[0] = value;
  const word = bits[0]!;
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal half: scaling by 2^24 makes the fraction an integer, and rounding it is exact in double precision.
    const scaled = Math.abs(single[0]!) * 2 ** 24;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && (floor & 1) === 1) ? floor + 1 : floor);
  }
  return sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13);
}

/** The 16 bits of the bfloat16 nearest to `value`. */
export function numberToBfloat16(value: number): number {
  single[0] = value;
  const word = bits[0]!;
  if ((word & 0x7fffffff) > 0x7f800000) return (word >>> 16) | 0x0040;
  return ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Widens stored bytes to float32; `bytes` must start at a multiple of four (fresh buffers do). */
export function widen(bytes: Uint8Array, format: FloatFormat): Float32Array {
  if (format === 'F32') return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const words = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  const out = new Float32Array(words.length);
  if (format === 'F16') {
    const table = halves();
    for (let i = 0; i < words.length; i++) out[i] = table[words[i]!]!;
  } else {
    const target = new Uint32Array(out.buffer);
    for (let i = 0; i < words.length; i++) target[i] = words[i]! << 16;
  }
  return out;
}

/** Narrows float32 values to the stored format; F32 is a view, not a copy. */
export function narrow(values: Float32Array, format: FloatFormat): Uint8Array {
  if (format === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const words = new Uint16Array(values.length);
  const convert = format === 'F16' ? numberToHalf : numberToBfloat16;
  for (let i = 0; i < values.length; i++) words[i] = convert(values[i]!);
  return new Uint8Array(words.buffer);
}
