// Reads TPM structures: big-endian integers and sized buffers (TPM2B). Zone: owner (verifier). TPM 2.0 Library, part 2.
import { MalformedError } from '../../trusted/wire/errors.js';

/** Every method throws MalformedError('tpm') when the input is too short; `end` when bytes are left. */
export class TpmReader {
  readonly #bytes: Uint8Array;
  readonly #where: string;
  #at = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#where = where;
  }

  fail(what: string): MalformedError {
    return new MalformedError('tpm', `${this.#where}: ${what}`, { offset: this.#at });
  }

  raw(size: number): Uint8Array {
    if (size > this.#bytes.length - this.#at) throw this.fail('is cut short');
    this.#at += size;
    return this.#bytes.slice(this.#at - size, this.#at);
  }

  u8(): number {
    return this.raw(1)[0]!;
  }

  u16(): number {
    return this.u8() * 256 + this.u8();
  }

  u32(): number {
    return this.u16() * 65536 + this.u16();
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** A TPM2B of `least` to `most` bytes. */
  sized(least: number, most: number): Uint8Array {
    const size = this.u16();
    if (size < least || size > most) throw this.fail(`has a buffer of ${size} bytes instead of ${least} to ${most}`);
    return this.raw(size);
  }

  /** Throws unless the next 16 bits are `value`. */
  expect16(value: number, what: string): void {
    const found = this.u16();
    if (found !== value) throw this.fail(`${what} is 0x${found.toString(16)}, expected 0x${value.toString(16)}`);
  }

  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left !== 0) throw this.fail(`has ${left} bytes too many`);
  }
}

/** TPM_ALG_ID and TPM_ECC_CURVE values used here. */
export const TPM = {
  rsa: 0x0001,
  aes: 0x0006,
  sha256: 0x000b,
  null: 0x0010,
  ecdsa: 0x0018,
  ecc: 0x0023,
  cfb: 0x0043,
  p256: 0x0003,
} as const;

/** Left-pads a number of at most `size` bytes. */
export function padLeft(bytes: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  out.set(bytes, size - bytes.length);
  return out;
}
