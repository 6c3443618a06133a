// Changes of basis x ↦ x·M of one axis of a model, and what each does to the weights that touch it. Zone: owner. DESIGN section 3.
// Data is [n, width], the axis first: a weight that writes into the axis, stored [out, in], becomes Mᵀ·data; one that reads from
// it, stored [in, out], becomes M⁻¹·data.
import { multiply } from '../../graph/product.js';

export interface BasisChange {
  /** Mᵀ·data, data [n, width]. */
  write(data: Float32Array, width: number): Promise<Float32Array>;
  /** M⁻¹·data, data [n, width]. */
  read(data: Float32Array, width: number): Promise<Float32Array>;
}

/** Coordinate i moves to position to[i], whole groups of `size` coordinates at a time. */
export function permuted(to: Int32Array, size = 1): BasisChange {
  async function scatter(data: Float32Array, width: number): Promise<Float32Array> {
    const out = new Float32Array(data.length);
    const stride = size * width;
    for (let i = 0; i < to.length; i++) out.set(data.subarray(i * stride, (i + 1) * stride), to[i]! * stride);
    return out;
  }
  return { write: scatter, read: scatter };
}

/** M orthogonal: `transposed` is Mᵀ, [n, n] row-major. */
export function orthogonal(transposed: Float32Array, n: number): BasisChange {
  const rotate = (data: Float32Array, width: number): Promise<Float32Array> =>
    multiply(transposed, data, { rows: n, inner: n, columns: width });
  return { write: rotate, read: rotate };
}

/** Block-diagonal M: square blocks of `size`; `transposed` and `inverse` hold Mᵀ and M⁻¹, [blocks, size, size]. */
export function blockDiagonal(transposed: Float32Array, inverse: Float32Array, size: number): BasisChange {
  const batch = transposed.length / (size * size);
  const apply = (blocks: Float32Array, data: Float32Array, columns: number): Promise<Float32Array> =>
    multiply(blocks, data, { batch, rows: size, inner: size, columns });
  return {
    write: (data, width) => apply(transposed, data, width),
    read: (data, width) => apply(inverse, data, width),
  };
}

/** M = diag(factors). */
export function scaled(factors: Float32Array): BasisChange {
  function scale(data: Float32Array, width: number, factorOf: (i: number) => number): Float32Array {
    const out = new Float32Array(data.length);
    for (let i = 0; i < factors.length; i++) {
      const factor = factorOf(i);
      for (let at = i * width; at < (i + 1) * width; at++) out[at] = data[at]! * factor;
    }
    return out;
  }
  return {
    write: async (data, width) => scale(data, width, (i) => factors[i]!),
    read: async (data, width) => scale(data, width, (i) => 1 / factors[i]!),
  };
}

/**
 * Every head's coordinate pairs (i, i + e/2), as RoPE pairs them, turned by angle φ and stretched by ρ: such a 2-D map commutes with
 * RoPE's rotation of the same pair. `angles` and `factors` are [heads, e/2].
 */
export function pairRotations(angles: Float32Array, factors: Float32Array, headDim: number): BasisChange {
  const half = headDim / 2;
  // Row vectors: (x, y)·ρR(φ) = ρ(x cos φ − y sin φ, x sin φ + y cos φ).
  function turn(data: Float32Array, width: number, factorOf: (pair: number) => number): Float32Array {
    const out = new Float32Array(data.length);
    for (let pair = 0; pair < angles.length; pair++) {
      const first = (Math.floor(pair / half) * headDim + (pair % half)) * width;
      const second = first + half * width;
      const cos = factorOf(pair) * Math.cos(angles[pair]!);
      const sin = factorOf(pair) * Math.sin(angles[pair]!);
      for (let i = 0; i < width; i++) {
        const [x, y] = [data[first + i]!, data[second + i]!];
        out[first + i] = x * cos - y * sin;
        out[second + i] = x * sin + y * cos;
      }
    }
    return out;
  }
  return {
    write: async (data, width) => turn(data, width, (pair) => factors[pair]!),
    read: async (data, width) => turn(data, width, (pair) => 1 / factors[pair]!),
  };
}

/** M = M₁·M₂·…: the first change is made first. */
export function chain(...changes: readonly BasisChange[]): BasisChange {
  const through = (how: 'write' | 'read') => async (data: Float32Array, width: number) => {
    let out = data;
    for (const change of changes) out = await change[how](out, width);
    return out;
  };
  return { write: through('write'), read: through('read') };
}
