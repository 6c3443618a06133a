// Canonical JSON (RFC 8785): sorted keys, no spaces, one text per value. Zone: trusted.
// Licences, receipts and manifest are signed as this text; `parseCanonicalJson` refuses any other spelling,
// so duplicate keys, odd number formats and hidden fields cannot be read two ways.
import { decodeUtf8, encodeUtf8 } from './bytes.js';
import { MalformedError } from './errors.js';

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

const MAX_DEPTH = 16;

function fail(what: string): never {
  throw new MalformedError('canonical-json', `not canonical JSON: ${what}`);
}

function encodeText(text: string): string {
  if (/\p{Surrogate}/u.test(text)) fail('a string holds half of a surrogate pair');
  return JSON.stringify(text);
}

function encode(value: unknown, depth: number): string {
  if (depth > MAX_DEPTH) fail(`nested deeper than ${MAX_DEPTH}`);
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return encodeText(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value) || Object.is(value, -0)) fail('a number is not finite or is minus zero');
    if (Number.isInteger(value) && !Number.isSafeInteger(value)) fail('an integer is beyond 2^53');
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((item) => encode(item, depth + 1)).join(',')}]`;
  if (typeof value !== 'object') fail(`a value of type ${typeof value}`);
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) fail('an object that is not a plain record');
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${encodeText(key)}:${encode(item, depth + 1)}`).join(',')}}`;
}

/** Throws MalformedError on anything RFC 8785 has no text for (undefined, NaN, dates, lone surrogates). */
export function encodeCanonicalJson(value: unknown): Uint8Array {
  return encodeUtf8(encode(value, 0));
}

/** Throws MalformedError unless `bytes` are exactly the canonical text of the value they hold. */
export function parseCanonicalJson(bytes: Uint8Array, maxBytes: number): JsonValue {
  if (bytes.length > maxBytes) fail(`${bytes.length} bytes, at most ${maxBytes} allowed`);
  const text = decodeUtf8(bytes);
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (cause) {
    throw new MalformedError('canonical-json', 'not JSON', {}, cause);
  }
  if (encode(value, 0) !== text) fail('the same value has another spelling');
  return value;
}
