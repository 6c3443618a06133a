// Reader of DER, the encoding of certificates and revocation lists. Zone: owner (verifier). ITU-T X.690.
// Definite, minimal lengths only; every element must be consumed exactly, so nothing hides behind what was read.
import { MalformedError } from '../../trusted/wire/errors.js';

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
} as const;

export interface Element {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Tag, length and content. */
  readonly raw: Uint8Array;
}

export function malformedDer(what: string, where: string): MalformedError {
  return new MalformedError('der', `${where}: ${what}`, { where });
}

/** Reads elements one after the other; `where` names the structure in messages. */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #where: string;
  #at = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#where = where;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Tag of the next element, or undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#at];
  }

  /** The next element; throws MalformedError when its tag is not `tag`. */
  take(tag?: number): Element {
    const start = this.#at;
    const found = this.#byte();
    if ((found & 0x1f) === 0x1f) throw malformedDer('tags of several bytes are not used here', this.#where);
    if (tag !== undefined && found !== tag) {
      throw malformedDer(`expected tag 0x${tag.toString(16)}, found 0x${found.toString(16)}`, this.#where);
    }
    const length = this.#length();
    if (length > this.#bytes.length - this.#at) throw malformedDer('is cut short', this.#where);
    const content = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return { tag: found, content, raw: this.#bytes.subarray(start, this.#at) };
  }

  /** A reader of the next element's content. */
  enter(tag: number = TAG.sequence): DerReader {
    return new DerReader(this.take(tag).content, this.#where);
  }

  end(): void {
    if (!this.done) throw malformedDer(`has ${this.#bytes.length - this.#at} bytes too many`, this.#where);
  }

  #byte(): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) throw malformedDer('is cut short', this.#where);
    this.#at++;
    return value;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const size = first & 0x7f;
    if (size === 0 || size > 3) throw malformedDer('has a length that DER does not allow here', this.#where);
    let length = 0;
    for (let i = 0; i < size; i++) length = length * 256 + this.#byte();
    if (length < 0x80 || length < 256 ** (size - 1))
      throw malformedDer('has a length that is not minimal', this.#where);
    return length;
  }
}

/** `1.2.840.…` */
export function decodeOid(content: Uint8Array, where: string): string {
  const arcs: number[] = [];
  let value = 0;
  for (const [i, byte] of content.entries()) {
    value = value * 128 + (byte & 0x7f);
    if (value > 0xffffffff) throw malformedDer('has an object identifier beyond 32 bits', where);
    if ((byte & 0x80) !== 0) {
      if (i === content.length - 1) throw malformedDer('has an object identifier cut short', where);
      continue;
    }
    if (arcs.length === 0) {
      const first = Math.min(2, Math.floor(value / 40));
      arcs.push(first, value - 40 * first);
    } else {
      arcs.push(value);
    }
    value = 0;
  }
  if (arcs.length === 0) throw malformedDer('has an empty object identifier', where);
  return arcs.join('.');
}

/** A non-negative INTEGER below 2^31. */
export function decodeSmallInteger(content: Uint8Array, where: string): number {
  const [first, second] = content;
  if (first === undefined || first >= 0x80 || content.length > 4)
    throw malformedDer('has a number out of range', where);
  if (first === 0 && second !== undefined && second < 0x80) throw malformedDer('has a padded number', where);
  return content.reduce((sum, byte) => sum * 256 + byte, 0);
}

/** UTCTime or GeneralizedTime in the form RFC 5280 demands (seconds, `Z`), as Unix seconds. */
export function decodeTime({ tag, content }: Element, where: string): number {
  const text = String.fromCharCode(...content.subarray(0, 16));
  const digits = tag === TAG.utcTime ? 12 : tag === TAG.generalizedTime ? 14 : 0;
  if (digits === 0 || content.length !== digits + 1 || !/^[0-9]+Z$/.test(text)) {
    throw malformedDer('has a time of unknown form', where);
  }
  const year = digits === 14 ? text.slice(0, 4) : `${Number(text.slice(0, 2)) >= 50 ? '19' : '20'}${text.slice(0, 2)}`;
  const [month, day, hour, minute, second] = [10, 8, 6, 4, 2].map((back) =>
    text.slice(digits - back, digits - back + 2),
  );
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = Date.parse(iso);
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) throw malformedDer('has an impossible time', where);
  return time / 1000;
}
