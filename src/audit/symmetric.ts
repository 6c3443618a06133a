// Symmetric matrices, for attackers' linear algebra: eigenvectors and definite systems. Zone: owner. All [n, n] row-major in float64.
// Eigenvectors by Householder's tridiagonal form and implicit QL (Bowdler, Martin, Reinsch and Wilkinson 1968, EISPACK tred2 and tql2).

export interface Eigen {
  /** Falling. */
  readonly values: Float64Array;
  /** Row c belongs to values[c]. */
  readonly vectors: Float64Array;
}

export function eigen(symmetric: Float64Array, n: number): Eigen {
  const v = symmetric.slice();
  const d = new Float64Array(n);
  const e = new Float64Array(n);
  tridiagonal(v, d, e, n);
  const rows = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1) for (let c = 0; c < n; c += 1) rows[c * n + i] = v[i * n + c]!;
  implicitQl(rows, d, e, n);
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => d[b]! - d[a]!);
  const vectors = new Float64Array(n * n);
  order.forEach((from, to) => {
    vectors.set(rows.subarray(from * n, (from + 1) * n), to * n);
  });
  return { values: Float64Array.from(order, (i) => d[i]!), vectors };
}

function tridiagonal(v: Float64Array, d: Float64Array, e: Float64Array, n: number): void {
  for (let j = 0; j < n; j += 1) d[j] = v[(n - 1) * n + j]!;
  for (let i = n - 1; i > 0; i -= 1) {
    let scale = 0;
    let h = 0;
    for (let k = 0; k < i; k += 1) scale += Math.abs(d[k]!);
    if (scale === 0) {
      e[i] = d[i - 1]!;
      for (let j = 0; j < i; j += 1) {
        d[j] = v[(i - 1) * n + j]!;
        v[i * n + j] = 0;
        v[j * n + i] = 0;
      }
    } else {
      for (let k = 0; k < i; k += 1) {
        d[k]! /= scale;
        h += d[k]! * d[k]!;
      }
      let f = d[i - 1]!;
      let g = f > 0 ? -Math.sqrt(h) : Math.sqrt(h);
      e[i] = scale * g;
      h -= f * g;
      d[i - 1] = f - g;
      e.fill(0, 0, i);
      for (let j = 0; j < i; j += 1) {
        f = d[j]!;
        v[j * n + i] = f;
        g = e[j]! + v[j * n + j]! * f;
        for (let k = j + 1; k < i; k += 1) {
          g += v[k * n + j]! * d[k]!;
          e[k]! += v[k * n + j]! * f;
        }
        e[j] = g;
      }
      f = 0;
      for (let j = 0; j < i; j += 1) {
        e[j]! /= h;
        f += e[j]! * d[j]!;
      }
      const hh = f / (h + h);
      for (let j = 0; j < i; j += 1) e[j]! -= hh * d[j]!;
      for (let j = 0; j < i; j += 1) {
        f = d[j]!;
        g = e[j]!;
        for (let k = j; k < i; k += 1) v[k * n + j]! -= f * e[k]! + g * d[k]!;
        d[j] = v[(i - 1) * n + j]!;
        v[i * n + j] = 0;
      }
    }
    d[i] = h;
  }
  for (let i = 0; i < n - 1; i += 1) {
    v[(n - 1) * n + i] = v[i * n + i]!;
    v[i * n + i] = 1;
    const h = d[i + 1]!;
    if (h !== 0) {
      for (let k = 0; k <= i; k += 1) d[k] = v[k * n + i + 1]! / h;
      for (let j = 0; j <= i; j += 1) {
        let g = 0;
        for (let k = 0; k <= i; k += 1) g += v[k * n + i + 1]! * v[k * n + j]!;
        for (let k = 0; k <= i; k += 1) v[k * n + j]! -= g * d[k]!;
      }
    }
    for (let k = 0; k <= i; k += 1) v[k * n + i + 1] = 0;
  }
  for (let j = 0; j < n; j += 1) {
    d[j] = v[(n - 1) * n + j]!;
    v[(n - 1) * n + j] = 0;
  }
  v[n * n - 1] = 1;
  e[0] = 0;
}

/** Turns `rows` as it goes: in the end each is an eigenvector. */
function implicitQl(rows: Float64Array, d: Float64Array, e: Float64Array, n: number): void {
  e.copyWithin(0, 1);
  e[n - 1] = 0;
  let shift = 0;
  let largest = 0;
  for (let l = 0; l < n; l += 1) {
    largest = Math.max(largest, Math.abs(d[l]!) + Math.abs(e[l]!));
    let m = l;
    while (m < n - 1 && Math.abs(e[m]!) > Number.EPSILON * largest) m += 1;
    while (m > l && Math.abs(e[l]!) > Number.EPSILON * largest) {
      let g = d[l]!;
      let p = (d[l + 1]! - g) / (2 * e[l]!);
      let r = Math.hypot(p, 1) * (p < 0 ? -1 : 1);
      d[l] = e[l]! / (p + r);
      d[l + 1] = e[l]! * (p + r);
      const next = d[l + 1]!;
      let h = g - d[l]!;
      for (let i = l + 2; i < n; i += 1) d[i]! -= h;
      shift += h;
      p = d[m]!;
      let [c, c2, c3, s, s2] = [1, 1, 1, 0, 0];
      const first = e[l + 1]!;
      for (let i = m - 1; i >= l; i -= 1) {
        [c3, c2, s2] = [c2, c, s];
        g = c * e[i]!;
        h = c * p;
        r = Math.hypot(p, e[i]!);
        e[i + 1] = s * r;
        s = e[i]! / r;
        c = p / r;
        p = c * d[i]! - s * g;
        d[i + 1] = h + s * (c * g + s * d[i]!);
        for (let k = 0; k < n; k += 1) {
          const x = rows[(i + 1) * n + k]!;
          const y = rows[i * n + k]!;
          rows[(i + 1) * n + k] = s * y + c * x;
          rows[i * n + k] = c * y - s * x;
        }
      }
      p = (-s * s2 * c3 * first * e[l]!) / next;
      e[l] = s * p;
      d[l] = c * p;
    }
    d[l]! += shift;
    e[l] = 0;
  }
}

/** The lower L of a = L·Lᵀ, in place of the lower triangle. Throws RangeError where `a` is not positive definite. */
export function cholesky(a: Float64Array, n: number): Float64Array {
  for (let j = 0; j < n; j += 1) {
    for (let i = j; i < n; i += 1) {
      let sum = a[i * n + j]!;
      for (let k = 0; k < j; k += 1) sum -= a[i * n + k]! * a[j * n + k]!;
      if (i > j) a[i * n + j] = sum / a[j * n + j]!;
      else if (sum > 0) a[j * n + j] = Math.sqrt(sum);
      else throw new RangeError(`not positive definite in row ${j}`);
    }
  }
  return a;
}

/** Overwrites b with L⁻¹·b. */
export function solveLower(l: Float64Array, n: number, b: Float64Array): void {
  for (let i = 0; i < n; i += 1) {
    let sum = b[i]!;
    for (let k = 0; k < i; k += 1) sum -= l[i * n + k]! * b[k]!;
    b[i] = sum / l[i * n + i]!;
  }
}

/** Overwrites b with (L·Lᵀ)⁻¹·b. */
export function solveDefinite(l: Float64Array, n: number, b: Float64Array): void {
  solveLower(l, n, b);
  for (let i = n - 1; i >= 0; i -= 1) {
    let sum = b[i]!;
    for (let k = i + 1; k < n; k += 1) sum -= l[k * n + i]! * b[k]!;
    b[i] = sum / l[i * n + i]!;
  }
}
