// The vocabulary's lock, the one secret of a scheme that the enclave itself undoes: token t is locked id result[t]. Zone: trusted.
// DESIGN section 3. All other transforms of a scheme end inside the weights (owner/scheme); the enclave never needs them.
import type { Scheme } from '../wire/manifest.js';
import { LabelledStream } from './stream.js';

/** [vocabSize]: a uniform permutation from the lock seed. */
export function vocabularyPermutation(seed: Uint8Array, scheme: Scheme, vocabSize: number): Int32Array {
  return new LabelledStream(seed, `${scheme}/vocabulary/pi`).permutation(vocabSize);
}
