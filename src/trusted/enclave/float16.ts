// Rounds log-probabilities to IEEE 754 half precision, ties to even. Zone: trusted. The licence's `precision` is enforced with it.

const LARGEST = 65504;
const SMALLEST_NORMAL = 2 ** -14;
const SMALLEST = 2 ** -24;
const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The half-precision number nearest to a float32 `value`; beyond the range it is the largest finite one. */
export function roundToFloat16(value: number): number {
  const size = Math.abs(value);
  if (size < SMALLEST_NORMAL) {
    // Subnormal halves are the multiples of 2^-24; the division by a power of two is exact.
    const scaled = value / SMALLEST;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
    return (up ? floor + 1 : floor) * SMALLEST;
  }
  // A half keeps 10 of float32's 23 fraction bits; the carry of the addition reaches the exponent as it should.
  float[0] = size;
  const word = bits[0]!;
  bits[0] = (word + 0xfff + ((word >>> 13) & 1)) & ~0x1fff;
  const rounded = Math.min(float[0], LARGEST);
  return value < 0 ? -rounded : rounded;
}
