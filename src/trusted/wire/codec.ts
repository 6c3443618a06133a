// Canonical binary encoding of message bodies: fixed-width little-endian integers, length-prefixed arrays. Zone: trusted.
// A reader must consume its input exactly (`end`), so one value has one encoding and nothing rides along.
import { concatBytes, decodeUtf8, encodeUtf8 } from './bytes.js';
import { MalformedError } from './errors.js';

// Arrays are copied as memory, so the machine must be little endian like the format; all supported ones are.
if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) throw new Error('distillock needs a little-endian machine');

/** Collects the parts and puts them together once, in `finish`; arrays are not copied before, so they must not change until then. */
export class Writer {
  readonly #parts: Uint8Array[] = [];

  u8(value: number): this {
    return this.raw(Uint8Array.of(value));
  }

  u32(value: number): this {
    return this.#memory(Uint32Array.of(value));
  }

  /** A non-negative integer below 2^53, in eight bytes. */
  u64(value: number): this {
    if (!Number.isSafeInteger(value) || value < 0) throw new MalformedError('codec', 'u64 is out of range');
    return this.u32(value % 2 ** 32).u32(Math.floor(value / 2 ** 32));
  }

  f64(value: number): this {
    return this.#memory(Float64Array.of(value));
  }

  raw(value: Uint8Array): this {
    this.#parts.push(value);
    return this;
  }

  bytes(value: Uint8Array): this {
    return this.u32(value.length).raw(value);
  }

  text(value: string): this {
    return this.bytes(encodeUtf8(value));
  }

  i32s(value: Int32Array): this {
    return this.u32(value.length).#memory(value);
  }

  f32s(value: Float32Array): this {
    return this.u32(value.length).#memory(value);
  }

  #memory({ buffer, byteOffset, byteLength }: Uint32Array | Float64Array | Int32Array | Float32Array): this {
    return this.raw(new Uint8Array(buffer, byteOffset, byteLength));
  }

  finish(): Uint8Array {
    return concatBytes(...this.#parts);
  }
}

/** Every method throws MalformedError when the input is too short; nothing is allocated before the length is checked. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    // A plain window, never a subclass: Buffer's `slice` would not copy.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #take(size: number): number {
    const at = this.#at;
    if (size > this.#bytes.length - at) throw new MalformedError('codec', 'message body is too short', { offset: at });
    this.#at += size;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  u64(): number {
    const at = this.#take(8);
    const value = this.#view.getBigUint64(at, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw new MalformedError('codec', 'u64 is beyond 2^53', { offset: at });
    return Number(value);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  raw(size: number): Uint8Array {
    const at = this.#take(size);
    return this.#bytes.slice(at, at + size);
  }

  bytes(): Uint8Array {
    return this.raw(this.u32());
  }

  text(): string {
    return decodeUtf8(this.bytes());
  }

  i32s(): Int32Array {
    return new Int32Array(this.#array());
  }

  f32s(): Float32Array {
    return new Float32Array(this.#array());
  }

  #array(): ArrayBuffer {
    return this.raw(4 * this.u32()).buffer as ArrayBuffer;
  }

  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left !== 0) throw new MalformedError('codec', `message body has ${left} bytes too many`, { offset: this.#at });
  }
}
