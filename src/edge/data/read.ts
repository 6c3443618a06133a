// A dataset file as records: jsonl, a JSON array, or plain text whose documents are separated by <|endoftext|> lines.
// Zone: edge. Also divides records into training and validation, before tokenising, so that no document is on both sides.
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { describeFileError } from '../../model/files.js';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import { readLines } from './lines.js';
import { RandomStream } from './random.js';
import { type DataRecord, detectFormat, type FieldNames, parseRecord, type RecordFormat } from './record.js';

export type DatasetFormat = RecordFormat | 'plain' | 'auto';

export interface ReadOptions {
  /** Default `auto`: by extension, then by the fields of the first record. */
  readonly format?: DatasetFormat;
  readonly promptField?: string | null;
  readonly completionField?: string | null;
  readonly textField?: string | null;
  /** Stop after this many records. */
  readonly limit?: number | null;
}

const SEPARATOR = '<|endoftext|>';
const JSON_LINES = new Set(['.jsonl', '.ndjson']);
const JSON_ARRAY = '.json';
const LATER = new Map([
  ['.parquet', 'convert it to jsonl'],
  ['.arrow', 'convert it to jsonl'],
  ['.csv', 'convert it to jsonl'],
  ['.gz', 'unpack it'],
  ['.zst', 'unpack it'],
]);

/** Throws MalformedError naming file, line and field, or byte offset; UnsupportedError for formats of other programs. */
export async function readDataset(file: string, options: ReadOptions = {}): Promise<DataRecord[]> {
  const extension = extname(file).toLowerCase();
  const advice = LATER.get(extension);
  if (advice !== undefined) {
    throw new UnsupportedError('dataset-extension', `${file}: ${extension} files cannot be read; ${advice} first`, {
      file,
    });
  }
  const format = options.format ?? 'auto';
  const asLines = JSON_LINES.has(extension) || (format !== 'auto' && format !== 'plain' && extension !== JSON_ARRAY);
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  const records: DataRecord[] = [];
  const values =
    format === 'plain' || (extension !== JSON_ARRAY && !asLines) ? null : asLines ? jsonLines(file) : jsonArray(file);
  for await (const record of values === null ? plainText(file) : jsonRecords(values, file, format, options)) {
    records.push(record);
    if (records.length >= limit) break;
  }
  if (records.length === 0) {
    throw new MalformedError('dataset-empty', `${file}: there is nothing in it to train on`, { file });
  }
  return records;
}

/** Whether `readDataset` takes the file for plain text when no format is named. */
export function isPlainText(file: string): boolean {
  const extension = extname(file).toLowerCase();
  return extension !== JSON_ARRAY && !JSON_LINES.has(extension);
}

/** A fraction of the records, drawn by seed, for validation: at least one, and at least one is left. Order is kept. */
export function splitRecords(
  records: readonly DataRecord[],
  fraction: number,
  seed: number,
): { train: DataRecord[]; validation: DataRecord[] } {
  const wanted = fraction <= 0 || records.length < 2 ? 0 : Math.max(1, Math.round(records.length * fraction));
  const count = Math.min(wanted, records.length - 1);
  const order = new RandomStream('data/split', seed).shuffle(Int32Array.from(records, (_, i) => i));
  const chosen = new Set(order.subarray(0, count));
  return {
    train: records.filter((_, i) => !chosen.has(i)),
    validation: records.filter((_, i) => chosen.has(i)),
  };
}

interface JsonValue {
  readonly value: unknown;
  readonly line: number;
}

async function* jsonRecords(
  values: AsyncIterable<JsonValue>,
  file: string,
  format: DatasetFormat,
  options: ReadOptions,
): AsyncGenerator<DataRecord> {
  const names: FieldNames = {
    prompt: options.promptField ?? null,
    completion: options.completionField ?? null,
    text: options.textField ?? null,
  };
  let found: RecordFormat | null = format === 'auto' || format === 'plain' ? null : format;
  for await (const { value, line } of values) {
    const origin = { file, line };
    found ??= detectFormat(value, names, origin);
    yield parseRecord(value, found, names, origin);
  }
}

async function* jsonLines(file: string): AsyncGenerator<JsonValue> {
  for await (const { number, text } of readLines(file)) {
    if (text.trim() !== '') yield { value: parseJson(text, file, number), line: number };
  }
}

/** A JSON array, or json lines under the wrong extension. */
async function* jsonArray(file: string): AsyncGenerator<JsonValue> {
  let first = '';
  for await (const { text } of readLines(file)) {
    first = text.trim();
    if (first !== '') break;
  }
  if (!first.startsWith('[')) {
    yield* jsonLines(file);
    return;
  }
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  const items = parseJson(text.replace(/^\uFEFF/, ''), file, 1);
  for (const [i, value] of (items as unknown[]).entries()) yield { value, line: i + 1 };
}

function parseJson(text: string, file: string, line: number): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new MalformedError('dataset-json', `${file}:${line}: not JSON (${reason})`, { file, line }, error);
  }
}

async function* plainText(file: string): AsyncGenerator<DataRecord> {
  let lines: string[] = [];
  let start = 1;
  const document = (): DataRecord[] => {
    const text = lines.join('\n').trim();
    return text === '' ? [] : [{ kind: 'text', text, origin: { file, line: start } }];
  };
  for await (const { number, text } of readLines(file)) {
    if (text.trim() !== SEPARATOR) {
      lines.push(text);
      continue;
    }
    yield* document();
    lines = [];
    start = number + 1;
  }
  yield* document();
}
