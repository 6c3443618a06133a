// Reads the fields of a JSON record one by one: every field is typed, none may be missing, none may be left over.
// Zone: trusted. Used for manifest, licence, receipt and evidence.
import type { JsonObject, JsonValue } from './canonical-json.js';
import { MalformedError } from './errors.js';

export class Fields {
  readonly #record: JsonObject;
  readonly #where: string;
  readonly #unread: Set<string>;

  /** Throws MalformedError when `value` is not an object. `where` names it in messages. */
  constructor(value: JsonValue, where: string) {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) {
      throw new MalformedError('fields', `${where}: expected an object`, { where });
    }
    this.#record = value as JsonObject;
    this.#where = where;
    this.#unread = new Set(Object.keys(value));
  }

  #fail(key: string, expected: string): never {
    throw new MalformedError('fields', `${this.#where}.${key}: expected ${expected}`, { where: this.#where, key });
  }

  value(key: string): JsonValue {
    if (!Object.hasOwn(this.#record, key)) this.#fail(key, 'a value, found none');
    this.#unread.delete(key);
    return this.#record[key]!;
  }

  /** A string of at most 512 characters that matches `pattern`. */
  text(key: string, pattern: RegExp): string {
    const value = this.value(key);
    if (typeof value !== 'string' || value.length > 512 || !pattern.test(value))
      this.#fail(key, `text like ${pattern}`);
    return value;
  }

  choice<T extends string>(key: string, choices: readonly T[]): T {
    const value = this.value(key);
    const found = choices.find((choice) => choice === value);
    return found ?? this.#fail(key, `one of ${choices.join(', ')}`);
  }

  number(key: string, min: number, max: number): number {
    const value = this.value(key);
    if (typeof value !== 'number' || !(value >= min && value <= max)) this.#fail(key, `a number in ${min}…${max}`);
    return value;
  }

  integer(key: string, min: number, max: number): number {
    const value = this.number(key, min, max);
    if (!Number.isSafeInteger(value)) this.#fail(key, 'an integer');
    return value;
  }

  list(key: string, max: number): readonly JsonValue[] {
    const value = this.value(key);
    if (!Array.isArray(value) || value.length > max) this.#fail(key, `a list of at most ${max}`);
    return value;
  }

  record(key: string): Fields {
    return new Fields(this.value(key), `${this.#where}.${key}`);
  }

  /** Throws MalformedError when a field was not read: an unknown field may change the meaning of the known ones. */
  end(): void {
    for (const key of this.#unread) this.#fail(key, 'no such field');
  }
}
