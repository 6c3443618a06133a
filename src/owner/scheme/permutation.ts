// Scheme `permutation` (DistilLock, arXiv 2510.16716): one secret permutation of the residual, one of the vocabulary. Zone: owner.
// DESIGN section 3. Norm gains stay and are permuted, as in the paper. What it does not protect is in the README.
import type { DecoderConfig } from '../../model/config.js';
import { LabelledStream } from '../../trusted/lock/stream.js';
import { vocabularyPermutation } from '../../trusted/lock/vocabulary.js';
import { type BasisChange, permuted } from './basis.js';
import type { LockScheme } from './lock-scheme.js';

export function permutationScheme(seed: Uint8Array, config: DecoderConfig): LockScheme {
  // One permutation per accelerator span; where all parts lie there, the paper's single π.
  const residual = (segment: number): BasisChange =>
    permuted(new LabelledStream(seed, `permutation/residual/${segment}`).permutation(config.hiddenSize));
  const vocabulary = permuted(vocabularyPermutation(seed, 'permutation', config.vocabSize));
  return {
    scheme: 'permutation',
    foldsGains: false,
    leftOut: [],
    basis: async (space, { segment }) =>
      space === 'residual' ? residual(segment) : space === 'vocabulary' ? vocabulary : null,
  };
}
