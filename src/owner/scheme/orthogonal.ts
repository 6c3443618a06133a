// Secret orthogonal and well-conditioned matrices from a labelled stream. Zone: owner. DESIGN section 3.
// Haar measure: orthonormalising the rows of a Gaussian matrix with positive coefficients is its QR with the signs fixed
// (Mezzadri, math-ph/0609050). Done in panels, each against all earlier rows at the runtime's speed and inside itself in float64.
import { multiply } from '../../graph/product.js';
import type { LabelledStream } from '../../trusted/lock/stream.js';

/** Uniform in (0, 1). */
export function uniform(stream: LabelledStream): number {
  return (stream.u32() + 0.5) / 2 ** 32;
}

/** Standard normal values (Box-Muller). */
function gaussians(stream: LabelledStream, size: number): Float64Array {
  const out = new Float64Array(size);
  for (let i = 0; i < size; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform(stream)));
    const angle = 2 * Math.PI * uniform(stream);
    out[i] = radius * Math.cos(angle);
    if (i + 1 < size) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

const panelRows = 64;

/** Modified Gram-Schmidt on the rows of `rows` [count, n], twice: the second pass removes what rounding left. */
function orthonormaliseRows(rows: Float64Array, count: number, n: number): void {
  for (let i = 0; i < count; i++) {
    const row = rows.subarray(i * n, (i + 1) * n);
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const other = rows.subarray(j * n, (j + 1) * n);
        let dot = 0;
        for (let c = 0; c < n; c++) dot += row[c]! * other[c]!;
        for (let c = 0; c < n; c++) row[c]! -= dot * other[c]!;
      }
    }
    const length = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
    for (let c = 0; c < n; c++) row[c]! /= length;
  }
}

/** A Haar-distributed orthogonal matrix, [n, n] row-major; ‖QQᵀ − I‖ is at rounding level of float32. */
export async function haarOrthogonal(stream: LabelledStream, n: number): Promise<Float32Array> {
  const q = new Float32Array(n * n);
  for (let done = 0; done < n; done += panelRows) {
    const count = Math.min(panelRows, n - done);
    const panel = gaussians(stream, count * n);
    for (let pass = 0; pass < 2 && done > 0; pass++) {
      const earlier = q.subarray(0, done * n);
      const rows = Float32Array.from(panel);
      const dots = await multiply(rows, earlier, { rows: count, inner: n, columns: done, transB: true });
      const along = await multiply(dots, earlier, { rows: count, inner: done, columns: n });
      for (let i = 0; i < panel.length; i++) panel[i]! -= along[i]!;
    }
    orthonormaliseRows(panel, count, n);
    q.set(panel, done * n);
  }
  return q;
}

export interface Invertible {
  /** Mᵀ and M⁻¹, [n, n] row-major. */
  readonly transposed: Float32Array;
  readonly inverse: Float32Array;
}

/** M = O₁·diag(s)·O₂ with Haar O₁, O₂ and log-uniform s in [1/stretch, stretch]: condition number at most stretch². */
export async function wellConditioned(stream: LabelledStream, n: number, stretch: number): Promise<Invertible> {
  const first = await haarOrthogonal(stream, n);
  const second = await haarOrthogonal(stream, n);
  const s = Float64Array.from({ length: n }, () => stretch ** (2 * uniform(stream) - 1));
  const transposed = new Float32Array(n * n);
  const inverse = new Float32Array(n * n);
  // M[i,j] = Σ_c O₁[i,c] s[c] O₂[c,j];  M⁻¹[j,i] = Σ_c O₂[c,j] s[c]⁻¹ O₁[i,c].
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let forward = 0;
      let backward = 0;
      for (let c = 0; c < n; c++) {
        const product = first[i * n + c]! * second[c * n + j]!;
        forward += product * s[c]!;
        backward += product / s[c]!;
      }
      transposed[j * n + i] = forward;
      inverse[j * n + i] = backward;
    }
  }
  return { transposed, inverse };
}
