// What a lock scheme is: a secret change of basis for each space of a model. Zone: owner. DESIGN section 3.
import type { DecoderConfig } from '../../model/config.js';
import type { Space } from '../../model/weights.js';
import type { Scheme } from '../../trusted/wire/manifest.js';
import type { BasisChange } from './basis.js';
import { permutationScheme } from './permutation.js';
import { rotationScheme } from './rotation.js';

export interface LockScheme {
  readonly scheme: Scheme;
  /** Norm gains are folded into the matrices that read the normalised stream, and become one. */
  readonly foldsGains: boolean;
  /** Named transforms that this family does not commute with, and why they are left out. */
  readonly leftOut: readonly string[];
  /** null: the space keeps its basis. `segment` tells apart the residual bases of a plan, `block` the spaces inside blocks. */
  basis(space: Space, at: { readonly segment: number; readonly block: number | null }): Promise<BasisChange | null>;
}

export interface SchemeOptions {
  /** The weights are going to be quantised: query/key pairs are turned by quarter turns only, which costs no accuracy. */
  readonly quantised?: boolean;
}

/** Secrets come from the 32-byte seed only. */
export function createScheme(
  scheme: Scheme,
  seed: Uint8Array,
  config: DecoderConfig,
  { quantised = false }: SchemeOptions = {},
): LockScheme {
  return scheme === 'permutation' ? permutationScheme(seed, config) : rotationScheme(seed, config, quantised);
}
