// Scheme `permutation` (DistilLock, arXiv 2510.16716): one secret permutation of the residual, one of the vocabulary. Zone: trusted.
// DESIGN section 3, row-vector convention x[1,d]·W[in,out]; tied embeddings must be untied first. What it does not protect is in the README.
import { MalformedError } from '../wire/errors.js';
import { invertPermutation, LabelledStream } from './stream.js';

/** How a tensor meets the residual: which of its axes is the residual or the vocabulary. */
export type LockRole = 'embedding' | 'residual-reader' | 'residual-writer' | 'head' | 'norm' | 'bias' | 'residual-bias';

export interface PermutationSecrets {
  /** [d]: residual channel j moves to position residual[j]. */
  readonly residual: Int32Array;
  /** [V]: token t is locked id vocabulary[t]. */
  readonly vocabulary: Int32Array;
}

export interface LockShape {
  readonly hiddenSize: number;
  readonly vocabSize: number;
}

export function permutationSecrets(seed: Uint8Array, shape: LockShape): PermutationSecrets {
  return {
    residual: new LabelledStream(seed, 'permutation/residual/pi').permutation(shape.hiddenSize),
    vocabulary: new LabelledStream(seed, 'permutation/vocabulary/pi').permutation(shape.vocabSize),
  };
}

type Axis = 'residual' | 'vocabulary' | null;
/** Axes of each role; a null axis stays as it is. */
const AXES: Readonly<Record<LockRole, readonly [Axis, Axis] | readonly [Axis]>> = {
  embedding: ['vocabulary', 'residual'],
  'residual-reader': ['residual', null],
  'residual-writer': [null, 'residual'],
  head: ['residual', 'vocabulary'],
  norm: ['residual'],
  bias: [null],
  'residual-bias': ['residual'],
};

/** out[rows[i], columns[j]] = data[i, j]; reads in order, one row at a time, so the scattered writes stay in cache. */
function scatter(
  data: Float32Array,
  rows: Int32Array | null,
  columns: Int32Array | null,
  height: number,
  width: number,
): Float32Array {
  const out = new Float32Array(data.length);
  for (let i = 0; i < height; i++) {
    const from = i * width;
    const to = (rows === null ? i : rows[i]!) * width;
    if (columns === null) out.set(data.subarray(from, from + width), to);
    else for (let j = 0; j < width; j++) out[to + columns[j]!] = data[from + j]!;
  }
  return out;
}

function apply(
  role: LockRole,
  data: Float32Array,
  shape: readonly number[],
  secrets: PermutationSecrets,
): Float32Array {
  const axes = AXES[role];
  const size = shape.reduce((product, length) => product * length, 1);
  const fits = axes.every((axis, i) => axis === null || secrets[axis].length === shape[i]);
  if (shape.length !== axes.length || size !== data.length || !fits) {
    throw new MalformedError('lock-shape', `a tensor of shape [${shape}] cannot be locked as ${role}`, { role });
  }
  const maps = axes.map((axis) => (axis === null ? null : secrets[axis]));
  if (maps.length === 1) return scatter(data, null, maps[0]!, 1, data.length);
  return scatter(data, maps[0]!, maps[1]!, shape[0]!, shape[1]!);
}

/**
 * The locked tensor, of the same shape: embedding [V,d], residual-reader [d,out], residual-writer [in,d], head [d,V],
 * norm and residual-bias [d], bias [out] (unchanged). Throws MalformedError when shape and role do not fit.
 */
export function lockTensor(
  role: LockRole,
  data: Float32Array,
  shape: readonly number[],
  secrets: PermutationSecrets,
): Float32Array {
  return apply(role, data, shape, secrets);
}

/** The inverse of `lockTensor`. */
export function unlockTensor(
  role: LockRole,
  data: Float32Array,
  shape: readonly number[],
  secrets: PermutationSecrets,
): Float32Array {
  const inverse = {
    residual: invertPermutation(secrets.residual),
    vocabulary: invertPermutation(secrets.vocabulary),
  };
  return apply(role, data, shape, inverse);
}
