// A parquet file as rows, one row group at a time, over hyparquet. Class labels that datasets stores as numbers become their names.
// Zone: edge. Uncompressed, snappy, gzip and brotli pages; zstd where this Node has it (22.15 and later).
import * as zlib from 'node:zlib';
import {
  asyncBufferFromFile,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
} from 'hyparquet';
import { describeFileError } from '../../model/files.js';
import { DistillockError, MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { Row } from './record.js';

type Fields = Record<string, unknown>;
type Unpack = (bytes: Uint8Array) => Uint8Array;

const zstd = (zlib as unknown as { readonly zstdDecompressSync?: Unpack }).zstdDecompressSync;
const COMPRESSORS: Compressors = {
  GZIP: (bytes) => zlib.gunzipSync(bytes),
  BROTLI: (bytes) => zlib.brotliDecompressSync(bytes),
  ...(zstd === undefined ? {} : { ZSTD: (bytes) => zstd(bytes) }),
};
/** Magic number twice and the footer's length. */
const SMALLEST = 12;
const READABLE = new Set(['UNCOMPRESSED', 'SNAPPY', ...Object.keys(COMPRESSORS)]);

/**
 * `used` are the columns that the settings name: their class numbers become names. Throws MalformedError('dataset-parquet') for a
 * damaged file and UnsupportedError('parquet-codec') for a compression that is not there.
 */
export async function* readParquet(file: string, used: ReadonlySet<string>): AsyncGenerator<Row> {
  const buffer = await asyncBufferFromFile(file).catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  if (buffer.byteLength < SMALLEST) throw damaged(file, `it has ${buffer.byteLength} bytes`);
  const metadata = await reading(file, () => parquetMetadataAsync(buffer));
  refuseCodecs(metadata, file);
  const classes = new Map([...classLabels(metadata)].filter(([column]) => used.has(column)));
  let rowStart = 0;
  for (const { num_rows: count } of metadata.row_groups) {
    const rowEnd = rowStart + Number(count);
    const range = { file: buffer, metadata, rowStart, rowEnd, compressors: COMPRESSORS };
    const rows: Fields[] = await reading(file, () => parquetReadObjects(range));
    if (rows.length !== rowEnd - rowStart) throw damaged(file, `rows ${rowStart + 1} to ${rowEnd} are not all there`);
    for (const [i, row] of rows.entries()) {
      const line = rowStart + i + 1;
      yield { value: classes.size === 0 ? row : named(row, classes, file, line), line };
    }
    rowStart = rowEnd;
  }
}

async function reading<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DistillockError) throw error;
    throw damaged(file, error instanceof Error ? error.message : String(error), error);
  }
}

function damaged(file: string, reason: string, cause?: unknown): MalformedError {
  return new MalformedError(
    'dataset-parquet',
    `${file}: cannot be read as parquet (${reason}); fetch or write it again`,
    { file },
    cause,
  );
}

function refuseCodecs({ row_groups: groups }: FileMetaData, file: string): void {
  for (const { columns } of groups) {
    const codec = columns
      .map(({ meta_data: column }) => column?.codec ?? 'UNCOMPRESSED')
      .find((name) => !READABLE.has(name));
    if (codec === undefined) continue;
    const message = `${file}: its pages are compressed with ${codec}, which cannot be read here; write it again with snappy or gzip`;
    throw new UnsupportedError('parquet-codec', message, { file, codec });
  }
}

/** Column → names of its classes, from the features that the datasets library leaves in the file. */
function classLabels({ key_value_metadata: entries }: FileMetaData): ReadonlyMap<string, readonly string[]> {
  const text = entries?.find(({ key }) => key === 'huggingface')?.value;
  const found = new Map<string, readonly string[]>();
  if (text === undefined) return found;
  let features: unknown;
  try {
    features = (JSON.parse(text) as { info?: { features?: unknown } } | null)?.info?.features;
  } catch {
    // Not what datasets writes: the columns are taken as they are.
    return found;
  }
  for (const [column, feature] of Object.entries((features ?? {}) as Record<string, Fields | null>)) {
    const names = feature?._type === 'ClassLabel' ? feature.names : null;
    if (Array.isArray(names) && names.every((name) => typeof name === 'string')) found.set(column, names);
  }
  return found;
}

function named(row: Fields, classes: ReadonlyMap<string, readonly string[]>, file: string, line: number): Fields {
  const changed = { ...row };
  for (const [column, names] of classes) {
    const value = row[column];
    if (value === null || value === undefined) continue;
    const name = names[Number(value)];
    if (name === undefined) {
      const what = Number(value) === -1 ? 'has no class (-1)' : `has class ${String(value)} of ${names.length}`;
      const message = `${file}:${line}: field "${column}" ${what}; use the part of the set that has its labels`;
      throw new MalformedError('dataset-field', message, { file, line, field: column });
    }
    changed[column] = name;
  }
  return changed;
}
