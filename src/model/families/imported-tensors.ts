// Tensors of a checkpoint under other names and shapes, made as they are read. Zone: edge and owner.
// What a family's importTensors is put together from: renames, slices, transposes, arithmetic.

import { MalformedError } from '../../trusted/wire/errors.js';
import { fingerprintOf, type TensorInfo, type TensorSource } from '../tensors.js';

/** One tensor of the decoder: where it comes from, its shape there, and how it is computed. */
export interface Import {
  readonly name: string;
  /** Stored tensors it is made of; the first one gives the storage type. */
  readonly from: readonly string[];
  /** Its shape, given those of the stored tensors. */
  readonly shape?: (shapes: readonly (readonly number[])[]) => readonly number[];
  /** Set where row i of a matrix is row `firstRow` + i of the one stored tensor, or made of it alone: `values` is given only such rows. */
  readonly firstRow?: number;
  /** Its values, given those of the stored tensors; absent: those of the first, as they are. */
  readonly values?: (stored: readonly Float32Array[], shapes: readonly (readonly number[])[]) => Float32Array;
}

/** Exactly these tensors. One whose stored parts are missing is missing under the decoder's name. */
export function importedTensors(source: TensorSource, imports: readonly Import[]): TensorSource {
  const byName = new Map(imports.map((item) => [item.name, item]));
  const find = (name: string): Import => {
    const item = byName.get(name);
    if (item !== undefined) return item;
    throw new MalformedError('tensor-missing', `this family has no tensor "${name}".`, { tensor: name });
  };
  const has = (name: string): boolean => byName.get(name)?.from.every((part) => source.has(part)) ?? false;
  const shapesOf = (item: Import): (readonly number[])[] => item.from.map((part) => source.info(part).shape);
  const info = (name: string): TensorInfo => {
    const item = find(name);
    const shapes = shapesOf(item);
    return { name, shape: item.shape?.(shapes) ?? shapes[0]!, dtype: source.info(item.from[0]!).dtype };
  };
  const widthOf = (shape: readonly number[]): number => shape.slice(1).reduce((product, size) => product * size, 1);
  const read = async (name: string): Promise<Float32Array> => {
    const item = find(name);
    const stored: Float32Array[] = [];
    for (const part of item.from) stored.push(await source.read(part));
    if (item.firstRow !== undefined) {
      const { shape } = info(name);
      const start = item.firstRow * widthOf(shape);
      stored[0] = stored[0]!.subarray(start, start + shape[0]! * widthOf(shape));
    }
    return item.values?.(stored, shapesOf(item)) ?? stored[0]!;
  };
  const readRows = async (name: string, start: number, count: number): Promise<Float32Array> => {
    const { firstRow, from, values } = find(name);
    const { shape } = info(name);
    if (firstRow === undefined || shape.length === 1 || source.readRows === undefined)
      return (await read(name)).subarray(start * widthOf(shape), (start + count) * widthOf(shape));
    const stored = await source.readRows(from[0]!, firstRow + start, count);
    return values?.([stored], shapesOf(find(name))) ?? stored;
  };
  return {
    list: () => [...byName.keys()].filter(has).map(info),
    has,
    info,
    read,
    readRows,
    fingerprint: () => fingerprintOf(source),
    close: () => source.close(),
  };
}

/** Rows `start`.. of a stored matrix [rows, columns] or vector; a matrix of another height keeps its shape, so that it is refused. */
export function rowsOf(name: string, from: string, start: number, count: number, total: number): Import {
  return {
    name,
    from: [from],
    shape: ([stored]) => (stored![0] === total ? [count, ...stored!.slice(1)] : stored!),
    firstRow: start,
  };
}

/** A stored tensor with every value changed on its own. */
export function mapped(name: string, from: string, change: (value: number) => number): Import {
  return { name, from: [from], firstRow: 0, values: ([stored]) => stored!.map(change) };
}

/** A stored tensor under another name. */
export function renamed(name: string, from: string): Import {
  return { name, from: [from], firstRow: 0 };
}
