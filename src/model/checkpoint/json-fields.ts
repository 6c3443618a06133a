// Typed access to the keys of a JSON object or of GGUF metadata; every error names the file and the key.
// Zone: edge and owner. A key that is absent or null takes the fallback; a key of the wrong type never does.

import { MalformedError } from '../../trusted/wire/errors.js';

/** Parses UTF-8 bytes as a JSON object. */
export function parseJsonObject(bytes: Uint8Array, file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new MalformedError(
      'json-invalid',
      `${file} is not valid JSON: the file is damaged, fetch it again.`,
      { file },
      error,
    );
  }
  if (!isRecord(value)) throw new MalformedError('json-invalid', `${file} must hold a JSON object.`, { file });
  return value;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export class JsonFields {
  readonly file: string;
  readonly record: Readonly<Record<string, unknown>>;
  readonly prefix: string;

  constructor(record: Readonly<Record<string, unknown>>, file: string, prefix = '') {
    this.record = record;
    this.file = file;
    this.prefix = prefix;
  }

  /** The value under `key`; null counts as absent. */
  get(key: string): unknown {
    return Object.hasOwn(this.record, key) ? (this.record[key] ?? undefined) : undefined;
  }

  /** Whether the key is written at all, even as null. */
  has(key: string): boolean {
    return Object.hasOwn(this.record, key);
  }

  /** A positive integer. */
  count(key: string, fallback?: number): number {
    return this.number(key, 'a positive integer', (n) => Number.isSafeInteger(n) && n > 0, fallback);
  }

  /** A finite number above zero. */
  positive(key: string, fallback?: number): number {
    return this.number(key, 'a number above zero', (n) => Number.isFinite(n) && n > 0, fallback);
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.get(key);
    if (value === undefined) return fallback;
    if (typeof value !== 'boolean') throw this.wrong(key, 'true or false');
    return value;
  }

  text(key: string, fallback?: string): string {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'string') throw this.wrong(key, 'a string');
    return value;
  }

  /** A token id, or null when absent. */
  tokenId(key: string): number | null {
    const ids = this.tokenIds(key);
    if (ids.length > 1) throw this.wrong(key, 'one token id');
    return ids[0] ?? null;
  }

  /** A token id or a list of them; empty when absent. */
  tokenIds(key: string): number[] {
    const value = this.get(key);
    if (value === undefined) return [];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    return list
      .map((id) => {
        if (typeof id !== 'number' || !Number.isSafeInteger(id))
          throw this.wrong(key, 'a token id or a list of token ids');
        return id;
      })
      .filter((id) => id >= 0); // -1 is an old way to write "none"
  }

  /** A nested object, or undefined when absent. */
  nested(key: string): JsonFields | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (!isRecord(value)) throw this.wrong(key, 'an object');
    return new JsonFields(value, this.file, `${this.prefix}${key}.`);
  }

  /** The error for a key that is missing or not what it must be. */
  wrong(key: string, expected: string): MalformedError {
    const name = `${this.prefix}${key}`;
    const found = this.get(key);
    const problem = found === undefined ? 'is missing' : `is ${JSON.stringify(found)?.slice(0, 80)}`;
    return new MalformedError('config-key', `${this.file}: "${name}" ${problem}, it must be ${expected}.`, {
      file: this.file,
      key: name,
    });
  }

  private number(key: string, expected: string, valid: (n: number) => boolean, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'number' || !valid(value)) throw this.wrong(key, expected);
    return value;
  }
}
