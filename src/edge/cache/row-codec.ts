// One cached row in bytes: k packed ids, k log-probabilities, one tail; 258 B at k = 64 over 49,152 tokens in float16.
// Zone: edge (DESIGN section 8). Ids take just the bits the vocabulary needs; a row starts on a byte, all numbers are little-endian.

import { halfToNumber, numberToHalf } from '../../model/checkpoint/float-formats.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { CachePrecision } from './key.js';
import { TAIL_FLOOR, type TeacherRows } from './rows.js';

// The most negative finite half: a very small probability stays a number.
const smallestHalf = -65504;

export interface RowFormat {
  readonly k: number;
  readonly vocabSize: number;
  readonly precision: CachePrecision;
  readonly idBits: number;
  readonly idBytes: number;
  readonly rowBytes: number;
}

export function rowFormat(k: number, vocabSize: number, precision: CachePrecision): RowFormat {
  const idBits = Math.max(1, 32 - Math.clz32(vocabSize - 1));
  const idBytes = Math.ceil((k * idBits) / 8);
  return { k, vocabSize, precision, idBits, idBytes, rowBytes: idBytes + (k + 1) * (precision === 'float16' ? 2 : 4) };
}

/**
 * Appends rows to `out` at byte `at`; gives the byte after them. Throws MalformedError when a row is not a descending list of
 * distinct ids of the vocabulary with finite log-probabilities of at most 0: a cache must not keep what training cannot use.
 */
export function encodeRows(format: RowFormat, rows: TeacherRows, out: Uint8Array, at: number, where: string): number {
  const { k } = format;
  const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
  const seen = new Set<number>();
  let byte = at;
  for (let row = 0; row < rows.rows; row++) {
    const first = row * k;
    checkRow(format, rows, row, seen, where);
    packIds(rows.tokenIds, first, format, out, byte);
    byte += format.idBytes;
    for (let i = 0; i <= k; i++) {
      const value = i < k ? Math.min(0, rows.logprobs[first + i]!) : Math.max(TAIL_FLOOR, rows.tail[row]!);
      if (format.precision === 'float16') {
        view.setUint16(byte, numberToHalf(Math.max(smallestHalf, value)), true);
        byte += 2;
      } else {
        view.setFloat32(byte, value, true);
        byte += 4;
      }
    }
  }
  return byte;
}

/**
 * Rows from bytes. Float16 rounding may leave top k and tail summing to 0.999 or 1.001, so those rows are normalised to 1;
 * float32 rows come back bit for bit.
 */
export function decodeRows(format: RowFormat, bytes: Uint8Array, rowCount: number): TeacherRows {
  const { k } = format;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tokenIds = new Int32Array(rowCount * k);
  const logprobs = new Float32Array(rowCount * k);
  const tail = new Float32Array(rowCount);
  for (let row = 0; row < rowCount; row++) {
    const start = row * format.rowBytes;
    const first = row * k;
    unpackIds(bytes, start, format, tokenIds, first);
    let byte = start + format.idBytes;
    if (format.precision === 'float32') {
      for (let i = 0; i < k; i++, byte += 4) logprobs[first + i] = view.getFloat32(byte, true);
      tail[row] = view.getFloat32(byte, true);
      continue;
    }
    for (let i = 0; i < k; i++, byte += 2) logprobs[first + i] = halfToNumber(view.getUint16(byte, true));
    tail[row] = halfToNumber(view.getUint16(byte, true));
    normalise(logprobs, first, k, tail, row);
  }
  return { rows: rowCount, k, tokenIds, logprobs, tail };
}

function normalise(logprobs: Float32Array, first: number, k: number, tail: Float32Array, row: number): void {
  let sum = Math.exp(tail[row]!);
  for (let i = first; i < first + k; i++) sum += Math.exp(logprobs[i]!);
  const excess = Math.log(sum);
  for (let i = first; i < first + k; i++) logprobs[i] = Math.min(0, logprobs[i]! - excess);
  tail[row] = Math.max(TAIL_FLOOR, Math.min(0, tail[row]! - excess));
}

function checkRow(format: RowFormat, rows: TeacherRows, row: number, seen: Set<number>, where: string): void {
  const { k, vocabSize } = format;
  const fail = (what: string): never => {
    throw new MalformedError('teacher-row', `${where}, row ${row}: ${what}; the cache does not keep it`, { row });
  };
  seen.clear();
  let previous = 1e-4;
  for (let i = row * k; i < (row + 1) * k; i++) {
    const id = rows.tokenIds[i]!;
    const logprob = rows.logprobs[i]!;
    if (id < 0 || id >= vocabSize) fail(`token id ${id} is outside the vocabulary of ${vocabSize}`);
    if (!Number.isFinite(logprob) || logprob > 1e-4) fail(`${logprob} is not a log-probability`);
    if (logprob > previous) fail('log-probabilities are not in descending order');
    seen.add(id);
    previous = logprob;
  }
  if (seen.size !== k) fail('a token id occurs twice');
  if (Number.isNaN(rows.tail[row]!) || rows.tail[row]! > 1e-4) fail(`${rows.tail[row]} is not a log mass`);
}

function packIds(ids: Int32Array, first: number, format: RowFormat, out: Uint8Array, at: number): void {
  let pending = 0;
  let bits = 0;
  let byte = at;
  for (let i = first; i < first + format.k; i++) {
    pending |= ids[i]! << bits;
    bits += format.idBits;
    for (; bits >= 8; bits -= 8, pending >>>= 8) out[byte++] = pending & 255;
  }
  if (bits > 0) out[byte] = pending & 255;
}

function unpackIds(bytes: Uint8Array, at: number, format: RowFormat, out: Int32Array, first: number): void {
  const mask = (1 << format.idBits) - 1;
  let pending = 0;
  let bits = 0;
  let byte = at;
  for (let i = first; i < first + format.k; i++) {
    for (; bits < format.idBits; bits += 8) pending |= bytes[byte++]! << bits;
    out[i] = pending & mask;
    pending >>>= format.idBits;
    bits -= format.idBits;
  }
}
