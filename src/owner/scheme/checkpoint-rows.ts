// Rows of a checkpoint's tensor in any order: small tensors are read once, large ones row by row as they are asked for.
// Zone: owner. Whatever is read is checked to be numbers.

import type { TensorSource } from '../../model/tensors.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { gather } from './basis.js';

/** Reads under way at once. */
const CONCURRENT_READS = 64;

/** The named groups of `group` rows, one after the other: [groups.length · group, width]. */
export type TakeRows = (groups: Int32Array, group: number) => Promise<Float32Array>;

/** Throws MalformedError('weight-not-finite') naming tensor and place when a value is NaN or infinite. */
export function checkFinite(tensor: string, data: Float32Array, firstIndex = 0): void {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i]! * 0;
  if (sum === 0) return;
  const at = data.findIndex((x) => !Number.isFinite(x));
  const message = `tensor "${tensor}" holds ${data[at]} at element ${firstIndex + at}: such a model cannot be locked; fetch or export the checkpoint again`;
  throw new MalformedError('weight-not-finite', message, { tensor, element: firstIndex + at });
}

/** Rows of a tensor [rows, width]; up to `wholeBytes` in float32 it is held whole. */
export async function rowsOf(
  tensors: TensorSource,
  tensor: string,
  { rows, width }: { readonly rows: number; readonly width: number },
  wholeBytes: number,
): Promise<TakeRows> {
  if (tensors.readRows === undefined || 4 * rows * width <= wholeBytes) {
    const whole = await readChecked(tensors, tensor);
    return async (groups, group) => gather(whole, group * width, groups);
  }
  return async (groups, group) => {
    const out = new Float32Array(groups.length * group * width);
    // In the order of the file; neighbours in one read.
    const runs = runsOf(groups);
    const read = async ({ from, places }: Run): Promise<void> => {
      const data = await tensors.readRows!(tensor, from * group, places.length * group);
      checkFinite(tensor, data, from * group * width);
      places.forEach((place, i) => {
        out.set(data.subarray(i * group * width, (i + 1) * group * width), place * group * width);
      });
    };
    for (let first = 0; first < runs.length; first += CONCURRENT_READS)
      await Promise.all(runs.slice(first, first + CONCURRENT_READS).map(read));
    return out;
  };
}

/** Columns of a tensor [width, rows], as rows; it is held whole. */
export async function columnsOf(
  tensors: TensorSource,
  tensor: string,
  { rows, width }: { readonly rows: number; readonly width: number },
): Promise<TakeRows> {
  const whole = await readChecked(tensors, tensor);
  return async (groups, group) => {
    const out = new Float32Array(groups.length * group * width);
    // A cache line of the output at a time.
    for (let c0 = 0; c0 < width; c0 += 16) {
      const c1 = Math.min(width, c0 + 16);
      for (let place = 0; place < groups.length * group; place++) {
        const from = groups[Math.floor(place / group)]! * group + (place % group);
        for (let c = c0; c < c1; c++) out[place * width + c] = whole[c * rows + from]!;
      }
    }
    return out;
  };
}

/** Rows of the square matrix with the tensor on its diagonal. */
export async function diagonalRows(tensors: TensorSource, tensor: string): Promise<TakeRows> {
  const values = await readChecked(tensors, tensor);
  return async (groups, group) => {
    const out = new Float32Array(groups.length * group * values.length);
    for (let place = 0; place < groups.length * group; place++) {
      const row = groups[Math.floor(place / group)]! * group + (place % group);
      out[place * values.length + row] = values[row]!;
    }
    return out;
  };
}

async function readChecked(tensors: TensorSource, tensor: string): Promise<Float32Array> {
  const whole = await tensors.read(tensor);
  checkFinite(tensor, whole);
  return whole;
}

/** Groups that lie side by side in the file, and where each of them goes. */
interface Run {
  readonly from: number;
  readonly places: number[];
}

function runsOf(groups: Int32Array): Run[] {
  const sorted = Array.from(groups, (from, place) => ({ from, place })).sort((a, b) => a.from - b.from);
  const runs: Run[] = [];
  for (const { from, place } of sorted) {
    const last = runs.at(-1);
    if (last !== undefined && last.from + last.places.length === from) last.places.push(place);
    else runs.push({ from, places: [place] });
  }
  return runs;
}
