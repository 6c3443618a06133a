// rounding.json of a bundle whose matrices were rounded with calibration text: which method, on how much text. Zone: owner and audit.
// For people who read the bundle; nothing runs by it. It says nothing of the text itself.
import { encodeCanonicalJson, parseCanonicalJson } from '../trusted/wire/canonical-json.js';
import { Fields } from '../trusted/wire/fields.js';

export const ROUNDING_FILE = 'rounding.json';
const METHODS = ['gptq'] as const;

export interface RoundingRecord {
  readonly method: (typeof METHODS)[number];
  /** Tokens of calibration text. */
  readonly tokens: number;
}

export function encodeRounding(record: RoundingRecord): Uint8Array {
  return encodeCanonicalJson(record);
}

/** Throws MalformedError on anything else. */
export function parseRounding(bytes: Uint8Array): RoundingRecord {
  const fields = new Fields(parseCanonicalJson(bytes, 4096), 'rounding');
  const record = { method: fields.choice('method', METHODS), tokens: fields.integer('tokens', 1, 2 ** 40) };
  fields.end();
  return record;
}
