// Reads little-endian fields of Intel's binary structures one after the other. Zone: owner (verifier).
// Windows into the input, no copies; every read says in its error which structure ended early.
import { MalformedError } from '../../trusted/wire/errors.js';

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #where: string;
  #at = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#where = where;
  }

  fail(what: string): never {
    throw new MalformedError('dcap-quote', `${this.#where}, byte ${this.#at}: ${what}`, {
      where: this.#where,
      offset: this.#at,
    });
  }

  get at(): number {
    return this.#at;
  }

  raw(size: number): Uint8Array {
    if (size > this.#bytes.length - this.#at) {
      this.fail(`needs ${size} bytes, ${this.#bytes.length - this.#at} are left`);
    }
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  u16(): number {
    const [a, b] = this.raw(2);
    return a! + 256 * b!;
  }

  u32(): number {
    return this.u16() + 65_536 * this.u16();
  }

  /** Reserved bytes, which must be zero: a bit set there would mean something that this reader does not know. */
  zeros(size: number): void {
    const bytes = this.raw(size);
    if (bytes.some((byte) => byte !== 0)) {
      this.#at -= size;
      this.fail(`${size} bytes that must be zero are not`);
    }
  }

  rest(): number {
    return this.#bytes.length - this.#at;
  }

  end(): void {
    if (this.rest() !== 0) this.fail(`${this.rest()} bytes too many`);
  }
}
