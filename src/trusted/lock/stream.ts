// Secret randomness of a lock: seed → HKDF-SHA256 per label → AES-256-CTR keystream → unbiased integers → permutations.
// Zone: trusted. DESIGN section 3. Everything is a pure function of seed and label, so a lock can be repeated.
import { createCipheriv, hkdfSync } from 'node:crypto';
import { encodeUtf8 } from '../wire/bytes.js';

export const SEED_BYTES = 32;
const SALT = encodeUtf8('distillock lock v1');
const BLOCK_BYTES = 4096;

/** The keystream of one label (`scheme/tensor/role`), read as 32-bit words. */
export class LabelledStream {
  readonly #next: () => Uint8Array;
  #block: DataView = new DataView(new ArrayBuffer(0));
  #at = 0;

  constructor(seed: Uint8Array, label: string) {
    if (seed.length !== SEED_BYTES) throw new RangeError(`a lock seed has ${SEED_BYTES} bytes`);
    const key = new Uint8Array(hkdfSync('sha256', seed, SALT, encodeUtf8(label), 32));
    // The key serves this label only, so the counter may start at zero.
    const cipher = createCipheriv('aes-256-ctr', key, new Uint8Array(16));
    const zeros = new Uint8Array(BLOCK_BYTES);
    this.#next = () => cipher.update(zeros);
  }

  u32(): number {
    if (this.#at === this.#block.byteLength) {
      const bytes = this.#next();
      this.#block = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.#at = 0;
    }
    const word = this.#block.getUint32(this.#at, true);
    this.#at += 4;
    return word;
  }

  /** Uniform in 0 … bound − 1: words of the incomplete last interval are thrown away, so there is no modulo bias. */
  below(bound: number): number {
    const limit = 2 ** 32 - (2 ** 32 % bound);
    let word = this.u32();
    while (word >= limit) word = this.u32();
    return word % bound;
  }

  /** A uniform permutation of 0 … size − 1 (Fisher-Yates): element i moves to position result[i]. */
  permutation(size: number): Int32Array {
    const order = Int32Array.from({ length: size }, (_, i) => i);
    for (let i = size - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const swapped = order[i]!;
      order[i] = order[j]!;
      order[j] = swapped;
    }
    return order;
  }
}

export function invertPermutation(permutation: Int32Array): Int32Array {
  const inverse = new Int32Array(permutation.length);
  for (let i = 0; i < permutation.length; i++) inverse[permutation[i]!] = i;
  return inverse;
}
