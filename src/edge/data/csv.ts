// A CSV or TSV file as rows of named columns, over csv-parse. The first line names the columns (RFC 4180, header present).
// Zone: edge. Quoted fields may hold line breaks; a row's line is the one on which it begins.
import { pipeline, Readable } from 'node:stream';
import { CsvError, type Parser, parse } from 'csv-parse';
import { MalformedError } from '../../trusted/wire/errors.js';
import { readLines } from './lines.js';
import type { Row } from './record.js';

/** No field of a text set is larger; without a bound one lone quote would read the rest of the file into memory. */
const MAX_RECORD_CHARACTERS = 1 << 24;

interface Parsed {
  readonly record: Readonly<Record<string, string>>;
  readonly raw: string;
  readonly info: { readonly lines: number };
}

/** Throws MalformedError (`dataset-csv`) naming file and line, and what `readLines` throws. Empty lines are skipped. */
export async function* readCsv(file: string, delimiter: string): AsyncGenerator<Row> {
  const parser = parse({
    delimiter,
    record_delimiter: '\n',
    columns: (header: string[]) => checkedHeader(header, file, delimiter),
    skip_empty_lines: true,
    max_record_size: MAX_RECORD_CHARACTERS,
    info: true,
    raw: true,
  });
  // The outcome is the parser's, whose error is thrown below.
  pipeline(Readable.from(textOf(file)), parser, () => undefined);
  try {
    for await (const { record, raw, info } of parser as Parser & AsyncIterable<Parsed>)
      yield { value: record, line: info.lines - newlinesIn(raw) };
  } catch (error) {
    throw error instanceof CsvError ? describe(error, file) : error;
  }
}

/** Line breaks inside a row; empty lines that were skipped before it belong to its raw text too. */
function newlinesIn(raw: string): number {
  return raw.replace(/^\n+|\n+$/g, '').split('\n').length - 1;
}

async function* textOf(file: string): AsyncGenerator<string> {
  for await (const { text } of readLines(file)) yield `${text}\n`;
}

function checkedHeader(header: readonly string[], file: string, delimiter: string): string[] {
  const names = header.map((name) => name.trim());
  const only =
    names.length === 1
      ? [';', '\t', ',', '|'].find((other) => other !== delimiter && names[0]!.includes(other))
      : undefined;
  const double = names.find((name, i) => names.indexOf(name) !== i);
  const problem =
    only !== undefined
      ? `has one column, "${names[0]}"; if ${only === '\t' ? 'tabs' : `"${only}"`} divide the columns, set dataset_delimiter`
      : names.includes('')
        ? `has no name for column ${names.indexOf('') + 1} in its first line`
        : double !== undefined
          ? `has two columns named "${double}"`
          : null;
  if (problem !== null) throw new MalformedError('dataset-csv', `${file}:1: ${problem}`, { file, line: 1 });
  return names;
}

function describe(error: CsvError, file: string): MalformedError {
  const line = Number(error.lines ?? 0);
  const found = (error.record as unknown[] | undefined)?.length ?? 'another number of';
  const problems: Readonly<Record<string, string>> = {
    CSV_RECORD_INCONSISTENT_COLUMNS: `has ${found} fields, the first line ${(error.columns as unknown[] | undefined)?.length ?? 'other'}; put quotes around fields with the delimiter in them`,
    CSV_QUOTE_NOT_CLOSED: 'has a quote that is never closed',
    CSV_INVALID_CLOSING_QUOTE: 'has text after a closing quote; write a quote inside a quoted field twice',
    INVALID_OPENING_QUOTE:
      'has a quote inside a field without quotes; put quotes around the field and write the inner one twice',
    CSV_MAX_RECORD_SIZE: 'begins a row without an end; is a quote never closed?',
  };
  const problem = problems[error.code] ?? `is not CSV (${error.message})`;
  return new MalformedError('dataset-csv', `${file}:${line}: ${problem}`, { file, line }, error);
}
