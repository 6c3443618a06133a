// The header of a safetensors file: u64 length, JSON object of tensors, then the data they point into.
// Zone: edge and owner. Follows huggingface/safetensors, including its rule that tensors fill the data without gap or overlap.

import { MalformedError } from '../../trusted/wire/errors.js';
import { isRecord } from './json-fields.js';

export interface StoredTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Absolute offset in the file. */
  readonly position: number;
  readonly length: number;
}

const dtypeBytes: Readonly<Record<string, number>> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};

/** The reference implementation's limit. */
const maxHeaderBytes = 100_000_000;

/** Length of the JSON part, from the first eight bytes of the file. */
export function parseHeaderLength(prefix: Uint8Array, fileSize: number, file: string): number {
  if (prefix.length < 8) throw damaged(file, 'is shorter than the eight bytes every safetensors file starts with');
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length < 2n || length > BigInt(maxHeaderBytes)) throw damaged(file, `claims a header of ${length} bytes`);
  if (Number(length) + 8 > fileSize) throw damaged(file, `ends inside its header of ${length} bytes`);
  return Number(length);
}

/** Checks the JSON part against the file's size and gives the tensors in the order of their data. */
export function parseHeader(json: Uint8Array, fileSize: number, file: string): StoredTensor[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (error) {
    throw damaged(file, 'has a header that is not JSON', {}, error);
  }
  if (!isRecord(parsed)) throw damaged(file, 'has a header that is not a JSON object');
  const dataStart = 8 + json.length;
  const tensors: StoredTensor[] = [];
  for (const [name, entry] of Object.entries(parsed)) {
    if (name === '__metadata__') checkMetadata(entry, file);
    else tensors.push(parseEntry(name, entry, dataStart, file));
  }
  tensors.sort((a, b) => a.position - b.position || a.length - b.length);
  let position = dataStart;
  for (const tensor of tensors) {
    if (tensor.position !== position) {
      throw damaged(file, `has a gap or an overlap before tensor "${tensor.name}"`, { tensor: tensor.name });
    }
    position += tensor.length;
    if (position > fileSize) {
      throw damaged(file, `ends at byte ${fileSize} inside tensor "${tensor.name}"`, { tensor: tensor.name });
    }
  }
  if (position !== fileSize) throw damaged(file, `has ${fileSize - position} bytes after its last tensor`);
  return tensors;
}

function parseEntry(name: string, entry: unknown, dataStart: number, file: string): StoredTensor {
  const fail = (what: string): MalformedError => damaged(file, `has ${what} for tensor "${name}"`, { tensor: name });
  if (!isRecord(entry)) throw fail('no object');
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(dtypeBytes, dtype))
    throw fail(`the unknown dtype ${JSON.stringify(dtype)}`);
  if (!isSizes(shape)) throw fail('no valid shape');
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[1]! < offsets[0]!) throw fail('no valid data_offsets');
  const length = offsets[1]! - offsets[0]!;
  const expected = shape.reduce((product, size) => product * size, 1) * dtypeBytes[dtype]!;
  if (length !== expected)
    throw fail(`${length} bytes where shape [${shape.join(', ')}] of ${dtype} takes ${expected}`);
  return { name, dtype, shape, position: dataStart + offsets[0]!, length };
}

function checkMetadata(entry: unknown, file: string): void {
  if (!isRecord(entry) || Object.values(entry).some((value) => typeof value !== 'string')) {
    throw damaged(file, 'has a __metadata__ that is not a map of strings');
  }
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function damaged(file: string, what: string, details: Record<string, string> = {}, cause?: unknown): MalformedError {
  return new MalformedError(
    'safetensors-damaged',
    `${file} ${what}: the file is damaged or truncated, fetch it again.`,
    { file, ...details },
    cause,
  );
}
