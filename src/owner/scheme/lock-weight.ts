// Reads one weight of a segment from a checkpoint and locks it. Zone: owner. DESIGN section 3.

import { diagonalOf, transposeInto } from '../../model/segment-weights.js';
import { type SegmentWeight, sizeOfWeight } from '../../model/segments.js';
import type { TensorSource } from '../../model/tensors.js';
import type { BasisChange } from './basis.js';
import type { LockScheme } from './lock-scheme.js';

/** Rows of a table that are rotated at once. */
const tableRows = 8192;

/** table [rows, width]·M, a part of the rows at a time. */
async function rotateRows(table: Float32Array, width: number, basis: BasisChange): Promise<Float32Array> {
  const out = new Float32Array(table.length);
  for (let start = 0; start < table.length; start += tableRows * width) {
    const part = table.subarray(start, Math.min(table.length, start + tableRows * width));
    const rows = part.length / width;
    const columns = new Float32Array(part.length);
    transposeInto(part, rows, width, columns);
    transposeInto(await basis.write(columns, rows), width, rows, out.subarray(start));
  }
  return out;
}

/** The locked weight in the segment's layout, float32, of the shape the segment gives. */
export async function lockWeight(
  lock: LockScheme,
  tensors: TensorSource,
  weight: SegmentWeight,
  segment: number,
): Promise<Float32Array> {
  const at = { segment, block: weight.block };
  const rows = weight.rows === null ? null : await lock.basis(weight.rows, at);
  if (weight.kind === 'table') {
    const width = weight.shape[1]!;
    const plain = await tensors.read(weight.parts[0]!.tensor);
    const columns = await lock.basis(weight.parts[0]!.columns, at);
    const table = columns ? await rotateRows(plain, width, columns) : plain;
    return rows ? rows.read(table, width) : table;
  }
  if (weight.kind === 'gain' && lock.foldsGains && weight.parts[0]!.columns === 'residual')
    return new Float32Array(sizeOfWeight(weight)).fill(1);
  const [inputs, outputs] = weight.shape.length === 2 ? (weight.shape as [number, number]) : [1, weight.shape[0]!];
  const joined = new Float32Array(inputs * outputs);
  let done = 0;
  for (const { tensor, columns } of weight.parts) {
    const basis = await lock.basis(columns, at);
    const stored = await tensors.read(tensor);
    const plain = weight.kind === 'diagonal' ? diagonalOf(stored) : stored;
    const locked = basis ? await basis.write(plain, inputs) : plain;
    transposeInto(locked, locked.length / inputs, inputs, joined, outputs, done);
    done += locked.length / inputs;
  }
  if (lock.foldsGains && weight.gain !== null) {
    const gain = await tensors.read(weight.gain);
    for (let i = 0; i < inputs; i++) for (let j = 0; j < outputs; j++) joined[i * outputs + j]! *= gain[i]!;
  }
  return rows ? rows.read(joined, outputs) : joined;
}
