// The header of a GGUF file: magic, version, metadata, tensor table. Pure: bytes in, checked values out.
// Zone: edge and owner. Follows the GGUF specification, versions 2 and 3, little endian.
// Written here because the parsers at hand read past the end of a truncated file as zeros instead of saying so.

import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';

export type GgufScalar = string | number | boolean;
export type GgufValue = GgufScalar | GgufScalar[];

export interface GgufTensor {
  readonly name: string;
  /** Innermost dimension first, the reverse of Hugging Face. */
  readonly dimensions: readonly number[];
  readonly type: number;
  /** Absolute offset in the file. */
  readonly position: number;
}

export interface GgufHeader {
  readonly metadata: Readonly<Record<string, GgufValue>>;
  readonly tensors: readonly GgufTensor[];
}

/** Reading went past the bytes at hand although the file has more: call again with a longer prefix. */
export const needMore: unique symbol = Symbol('need more bytes');

/** Smallest encoded size of each value type; index is the type number. */
const minimumBytes: readonly number[] = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];
const stringType = 8;
const arrayType = 9;
const maxDimensions = 4;

/**
 * Parses a prefix of the file. Throws MalformedError for anything that cannot be a GGUF header, a truncated file included.
 */
export function parseGgufHeader(prefix: Uint8Array, fileSize: number, file: string): GgufHeader | typeof needMore {
  try {
    return new Parser(prefix, fileSize, file).header();
  } catch (error) {
    if (error === needMore) return needMore;
    throw error;
  }
}

class Parser {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #fileSize: number;
  readonly #file: string;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #at = 0;
  #what = 'the header';

  constructor(bytes: Uint8Array, fileSize: number, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fileSize = fileSize;
    this.#file = file;
  }

  header(): GgufHeader {
    if (this.#u32() !== 0x46554747) throw this.#damaged('does not start with "GGUF"');
    const version = this.#u32();
    if (version !== 2 && version !== 3) {
      const bigEndian = (version & 0xffff) === 0 && version !== 0;
      throw new UnsupportedError(
        'gguf-version',
        `${this.#file}: GGUF ${bigEndian ? 'in big-endian order' : `version ${version}`}; supported are versions 2 and 3, little endian.`,
        { file: this.#file },
      );
    }
    const tensorCount = this.#size('tensors', 24);
    const keyCount = this.#size('metadata keys', 13);
    const metadata: Record<string, GgufValue> = Object.create(null);
    for (let i = 0; i < keyCount; i++) {
      this.#what = `metadata key ${i}`;
      const key = this.#string();
      if (key === '' || key in metadata) throw this.#damaged(`has the metadata key "${key}" empty or twice`);
      this.#what = `metadata key "${key}"`;
      metadata[key] = this.#value(this.#u32());
    }
    return { metadata, tensors: this.#tensors(tensorCount, metadata['general.alignment'] ?? 32) };
  }

  #tensors(count: number, alignment: GgufValue): GgufTensor[] {
    if (typeof alignment !== 'number' || alignment < 8 || alignment > 65536 || alignment % 8 !== 0) {
      throw this.#damaged('has a "general.alignment" that is no multiple of eight');
    }
    const relative: GgufTensor[] = [];
    const names = new Set<string>();
    for (let i = 0; i < count; i++) {
      this.#what = `entry ${i} of the tensor table`;
      const name = this.#string();
      if (name === '' || names.has(name)) throw this.#damaged(`has the tensor name "${name}" empty or twice`);
      names.add(name);
      this.#what = `the table entry of tensor "${name}"`;
      const rank = this.#u32();
      if (rank < 1 || rank > maxDimensions) throw this.#damaged(`gives ${rank} dimensions in ${this.#what}`);
      const dimensions = Array.from({ length: rank }, () => this.#u64());
      if (dimensions.includes(0)) throw this.#damaged(`gives a dimension of 0 in ${this.#what}`);
      const type = this.#u32();
      const offset = this.#u64();
      if (offset % alignment !== 0) throw this.#damaged(`gives an offset that is not aligned in ${this.#what}`);
      relative.push({ name, dimensions, type, position: offset });
    }
    const dataStart = Math.ceil(this.#at / alignment) * alignment;
    return relative.map((tensor) => ({ ...tensor, position: dataStart + tensor.position }));
  }

  #value(type: number): GgufValue {
    if (type !== arrayType) return this.#scalar(type);
    const elementType = this.#u32();
    const size = minimumBytes[elementType];
    if (size === undefined || elementType === arrayType)
      throw this.#damaged(`has an array of unknown type in ${this.#what}`);
    const count = this.#size('array elements', size);
    const values: GgufScalar[] = [];
    for (let i = 0; i < count; i++) values.push(this.#scalar(elementType));
    return values;
  }

  #scalar(type: number): GgufScalar {
    switch (type) {
      case 0:
        return this.#view.getUint8(this.#take(1));
      case 1:
        return this.#view.getInt8(this.#take(1));
      case 2:
        return this.#view.getUint16(this.#take(2), true);
      case 3:
        return this.#view.getInt16(this.#take(2), true);
      case 4:
        return this.#u32();
      case 5:
        return this.#view.getInt32(this.#take(4), true);
      case 6:
        return shortest(this.#view.getFloat32(this.#take(4), true));
      case 7:
        return this.#boolean();
      case stringType:
        return this.#string();
      case 10:
        return this.#u64();
      case 11:
        return Number(this.#view.getBigInt64(this.#take(8), true));
      case 12:
        return this.#view.getFloat64(this.#take(8), true);
      default:
        throw this.#damaged(`has the unknown value type ${type} in ${this.#what}`);
    }
  }

  #boolean(): boolean {
    const byte = this.#view.getUint8(this.#take(1));
    if (byte > 1) throw this.#damaged(`has a boolean of ${byte} in ${this.#what}`);
    return byte === 1;
  }

  #string(): string {
    const length = this.#size('bytes of text', 1);
    const start = this.#take(length);
    try {
      return this.#decoder.decode(this.#bytes.subarray(start, start + length));
    } catch {
      throw this.#damaged(`has text that is not UTF-8 in ${this.#what}`);
    }
  }

  #u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  #u64(): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw this.#damaged(`has the impossible number ${value} in ${this.#what}`);
    return Number(value);
  }

  /** A count whose items take at least `itemBytes` each: more than the file can hold means damage, before anything is allocated. */
  #size(items: string, itemBytes: number): number {
    const count = this.#u64();
    if (count * itemBytes > this.#fileSize - this.#at) {
      throw this.#damaged(`claims ${count} ${items} in ${this.#what}, more than its ${this.#fileSize} bytes can hold`);
    }
    return count;
  }

  #take(length: number): number {
    const start = this.#at;
    if (start + length > this.#fileSize) throw this.#damaged(`ends inside ${this.#what}`);
    if (start + length > this.#bytes.length) throw needMore;
    this.#at = start + length;
    return start;
  }

  #damaged(what: string): MalformedError {
    return new MalformedError(
      'gguf-damaged',
      `${this.#file} ${what}: the file is damaged or truncated, fetch it again.`,
      {
        file: this.#file,
        offset: this.#at,
      },
    );
  }
}

/** The shortest decimal that is the same float32, so that 1e-5 reads as 1e-5 and not as 9.999999747378752e-6. */
function shortest(value: number): number {
  for (let digits = 6; digits < 9; digits++) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === value) return candidate;
  }
  return value;
}
