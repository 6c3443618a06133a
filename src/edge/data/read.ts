// A dataset file as records: jsonl, a JSON array, CSV, TSV, parquet, or plain text whose documents end at <|endoftext|> lines.
// Zone: edge. Also divides records into training and validation, before tokenising, so that no document is on both sides.
import { extname } from 'node:path';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import { readCsv } from './csv.js';
import { checkFieldNames, type FieldNames } from './fields.js';
import { readJsonArray, readJsonLines } from './json.js';
import { readLines } from './lines.js';
import { readParquet } from './parquet.js';
import { parsePromptTemplate } from './prompt-template.js';
import { RandomStream } from './random.js';
import { type DataRecord, detectFormat, formatOf, parseRecord, type RecordFormat, type Row } from './record.js';

/** What a record is, or (`csv`, `parquet`, `plain`) what kind of file holds it. */
export type DatasetFormat = RecordFormat | 'csv' | 'parquet' | 'plain' | 'auto';

export interface ReadOptions {
  /** Default `auto`: by extension, then by the fields of the first record. */
  readonly format?: DatasetFormat;
  readonly promptField?: string | null;
  readonly completionField?: string | null;
  readonly textField?: string | null;
  readonly labelField?: string | null;
  /** Prompt with columns in braces. */
  readonly promptTemplate?: string | null;
  /** Between the columns of CSV; default: a comma, in .tsv files a tab. */
  readonly delimiter?: string | null;
  /** Stop after this many records. */
  readonly limit?: number | null;
}

type Container = 'lines' | 'array' | 'csv' | 'parquet' | 'plain';

const SEPARATOR = '<|endoftext|>';
const CONTAINERS: ReadonlyMap<string, Container> = new Map([
  ['.jsonl', 'lines'],
  ['.ndjson', 'lines'],
  ['.json', 'array'],
  ['.csv', 'csv'],
  ['.tsv', 'csv'],
  ['.parquet', 'parquet'],
]);
const ELSEWHERE = new Map([
  ['.arrow', 'convert it to parquet or jsonl'],
  ['.xlsx', 'save it as CSV'],
  ['.gz', 'unpack it'],
  ['.zst', 'unpack it'],
  ['.zip', 'unpack it'],
]);

/**
 * Throws MalformedError naming file, line and field, or byte offset; MalformedError (`setting-…`) for column settings that contradict
 * one another; UnsupportedError for formats of other programs.
 */
export async function readDataset(file: string, options: ReadOptions = {}): Promise<DataRecord[]> {
  const format = options.format ?? 'auto';
  const names: FieldNames = {
    prompt: options.promptField ?? null,
    completion: options.completionField ?? null,
    text: options.textField ?? null,
    label: options.labelField ?? null,
    template: options.promptTemplate == null ? null : parsePromptTemplate(options.promptTemplate),
  };
  checkFieldNames(names, format);
  const container = containerOf(file, format);
  if (options.delimiter != null && container !== 'csv') {
    throw new MalformedError('setting-columns', `dataset_delimiter is for CSV, which ${file} is not; leave it out`, {
      file,
    });
  }
  const rows = rowsOf(file, container, names, options.delimiter ?? null);
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  const records: DataRecord[] = [];
  for await (const record of rows === null ? plainText(file) : recordsOf(rows, file, format, names)) {
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
  return containerOf(file, 'auto') === 'plain';
}

function containerOf(file: string, format: DatasetFormat): Container {
  const extension = extname(file).toLowerCase();
  const advice = ELSEWHERE.get(extension);
  if (advice !== undefined) {
    const message = `${file}: ${extension} files cannot be read; ${advice} first`;
    throw new UnsupportedError('dataset-extension', message, { file });
  }
  if (format === 'csv' || format === 'parquet' || format === 'plain') return format;
  return CONTAINERS.get(extension) ?? (format === 'auto' ? 'plain' : 'lines');
}

function rowsOf(
  file: string,
  container: Container,
  names: FieldNames,
  delimiter: string | null,
): AsyncIterable<Row> | null {
  switch (container) {
    case 'lines':
      return readJsonLines(file);
    case 'array':
      return readJsonArray(file);
    case 'csv':
      return readCsv(file, delimiter ?? (extname(file).toLowerCase() === '.tsv' ? '\t' : ','));
    case 'parquet': {
      const { template, ...columns } = names;
      const used = [...Object.values(columns), ...(template?.columns ?? [])].filter((column) => column !== null);
      return readParquet(file, new Set(used));
    }
    case 'plain':
      return null;
  }
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

async function* recordsOf(
  rows: AsyncIterable<Row>,
  file: string,
  format: DatasetFormat,
  names: FieldNames,
): AsyncGenerator<DataRecord> {
  const detects = format === 'auto' || format === 'csv' || format === 'parquet';
  let found: { readonly format: RecordFormat; readonly line: number } | null = null;
  for await (const { value, line } of rows) {
    const origin = { file, line };
    found ??= { format: detects ? detectFormat(value, names, origin) : (format as RecordFormat), line };
    const own = detects ? formatOf(value, names, origin) : null;
    if (own !== null && own !== found.format) {
      const message = `${file}:${line}: reads as ${own}, the record of line ${found.line} as ${found.format}; put them into files of their own, or set dataset_format`;
      throw new MalformedError('dataset-mixed', message, { file, line });
    }
    yield parseRecord(value, found.format, names, origin);
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
