// Deterministic random numbers: one AES-256-CTR key stream per (purpose, seed, counter), the same on every machine.
// Zone: edge. Streams are addressed, not advanced, so data order and initialisation survive a resume. Not for secrets.
import { type Cipher, createCipheriv, createHash } from 'node:crypto';

const BLOCK_BYTES = 1 << 14;
const ZEROS = new Uint8Array(BLOCK_BYTES);

export class RandomStream {
  private readonly cipher: Cipher;
  private block: DataView = new DataView(new ArrayBuffer(0));
  private at = 0;
  private spare: number | null = null;

  /** `purpose` separates uses of one seed (`order`, `init/model.norm`), `counter` e.g. epochs. */
  constructor(purpose: string, seed: number, counter = 0) {
    const key = createHash('sha256').update(`distillock/random/v1/${purpose}/${seed}/${counter}`).digest();
    this.cipher = createCipheriv('aes-256-ctr', key, new Uint8Array(16));
  }

  /** Uniform in [0, 2^32). */
  uint32(): number {
    if (this.at === this.block.byteLength) {
      const bytes = this.cipher.update(ZEROS);
      this.block = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.at = 0;
    }
    const value = this.block.getUint32(this.at, true);
    this.at += 4;
    return value;
  }

  /** Uniform integer in [0, bound), without modulo bias; bound at most 2^32. */
  below(bound: number): number {
    const limit = 2 ** 32 - (2 ** 32 % bound);
    let value = this.uint32();
    while (value >= limit) value = this.uint32();
    return value % bound;
  }

  /** Uniform in [0, 1) with 53 bits. */
  uniform(): number {
    return ((this.uint32() >>> 5) * 2 ** 26 + (this.uint32() >>> 6)) / 2 ** 53;
  }

  /** Standard normal (Box–Muller). */
  normal(): number {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Fisher–Yates in place; returns its argument. */
  shuffle(values: Int32Array): Int32Array {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = values[i]!;
      values[i] = values[j]!;
      values[j] = held;
    }
    return values;
  }
}
