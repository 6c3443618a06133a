// Strict reader of DER, the encoding of certificates and revocation lists. Zone: owner (verifier). X.690 sections 8 and 10.
// One value has one encoding: definite, shortest lengths and integers only; every reader names the tag it expects and must
// reach the end of its input, so nothing rides along unread. It recurses only where the caller asks.
import { encodeHex } from '../../trusted/wire/bytes.js';
import { MalformedError } from '../../trusted/wire/errors.js';

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  context0: 0xa0,
  context3: 0xa3,
} as const;

export interface DerValue {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Tag and length included: what a signature is over, and what names are compared by. */
  readonly raw: Uint8Array;
}

export function malformedDer(what: string): never {
  throw new MalformedError('der', `not DER as expected: ${what}`);
}

/** Reads values one after the other. Every method throws MalformedError. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Whether another value follows and has this tag. */
  follows(tag: number): boolean {
    return this.#bytes[this.#at] === tag;
  }

  #byte(): number {
    return this.#bytes[this.#at++] ?? malformedDer('it ends early');
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const size = first - 0x80;
    if (size === 0 || size > 3) malformedDer('an indefinite or huge length');
    let length = 0;
    for (let i = 0; i < size; i++) length = length * 256 + this.#byte();
    if (length < 0x80 || length < 256 ** (size - 1)) malformedDer('a length in more bytes than it needs');
    return length;
  }

  any(): DerValue {
    const start = this.#at;
    const tag = this.#byte();
    if ((tag & 0x1f) === 0x1f) malformedDer('a tag of several bytes');
    const length = this.#length();
    const end = this.#at + length;
    if (end > this.#bytes.length) malformedDer('a value is longer than what holds it');
    const content = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return { tag, content, raw: this.#bytes.subarray(start, end) };
  }

  next(tag: number): DerValue {
    if (!this.follows(tag)) malformedDer(`expected tag ${tag}, found ${this.#bytes[this.#at] ?? 'the end'}`);
    return this.any();
  }

  /** Enters a constructed value, SEQUENCE unless said otherwise. */
  into(tag: number = TAG.sequence): DerReader {
    return new DerReader(this.next(tag).content);
  }

  /** Hex of the identifier's content bytes; constants are compared in that form. */
  objectId(): string {
    return encodeHex(this.next(TAG.objectId).content);
  }

  /** Hex of a non-negative INTEGER's content, a leading zero byte included where DER demands one. */
  serial(): string {
    const { content } = this.next(TAG.integer);
    const [first, second] = content;
    if (first === undefined || first >= 0x80) malformedDer('an empty or negative integer');
    if (first === 0 && second !== undefined && second < 0x80) malformedDer('an integer in more bytes than it needs');
    return encodeHex(content);
  }

  /** A non-negative INTEGER of at most `max`. */
  integer(max: number): number {
    const hex = this.serial();
    const value = hex.length > 12 ? Number.POSITIVE_INFINITY : Number.parseInt(hex, 16);
    if (value > max) malformedDer(`an integer above ${max}`);
    return value;
  }

  octets(length?: number): Uint8Array {
    const { content } = this.next(TAG.octetString);
    if (length !== undefined && content.length !== length) malformedDer(`expected ${length} bytes`);
    return content;
  }

  /** A BIT STRING's bytes. Unused bits are allowed only where `maxUnused` says so, and must be zero. */
  bits(maxUnused: number): Uint8Array {
    const { content } = this.next(TAG.bitString);
    const unused = content[0] ?? malformedDer('a bit string without bytes');
    const bytes = content.subarray(1);
    if (unused > maxUnused || (unused > 0 && bytes.length === 0)) malformedDer('unused bits');
    if (((bytes.at(-1) ?? 0) & ((1 << unused) - 1)) !== 0) malformedDer('unused bits that are not zero');
    return bytes;
  }

  boolean(): boolean {
    const { content } = this.next(TAG.boolean);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) malformedDer('a boolean');
    return content[0] === 0xff;
  }

  /** Unix seconds of a UTCTime (1950–2049) or GeneralizedTime, both in the form of RFC 5280 section 4.1.2.5. */
  time(): number {
    const short = this.follows(TAG.utcTime);
    const { content } = this.next(short ? TAG.utcTime : TAG.generalizedTime);
    let text = String.fromCharCode(...content.subarray(0, 16));
    if (!(short ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text)) malformedDer('a time that is not whole seconds in UTC');
    if (short) text = `${text < '50' ? '20' : '19'}${text}`;
    const iso = text.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6.000Z');
    const milliseconds = Date.parse(iso);
    if (Number.isNaN(milliseconds) || new Date(milliseconds).toISOString() !== iso) malformedDer('no such time');
    return milliseconds / 1000;
  }

  end(): void {
    if (!this.done) malformedDer('bytes after the last value');
  }
}
