// Fixed-shape batches with random access: `batchAt(epoch, index)` depends on nothing but its arguments and the seed.
// Zone: edge (DESIGN section 8). A resumed run asks for the next index and gets the batch that an unbroken run would have got.
import { MalformedError } from '../../trusted/wire/errors.js';
import { chooseWidths } from './buckets.js';
import { type Example, teacherPositions } from './example.js';
import { packExamples } from './packing.js';
import { RandomStream } from './random.js';

/** Where an example lies in a batch. */
export interface Slot {
  readonly example: number;
  readonly row: number;
  /** First column of the example in its row. */
  readonly offset: number;
  readonly length: number;
}

export interface Batch {
  /** [rows, columns]; padding holds `padTokenId`. */
  readonly inputIds: Int32Array;
  /** [rows, columns], restarting at 0 with every example; 0 in padding. */
  readonly positionIds: Int32Array;
  /** [rows, columns]; 0 is padding, 1… the example's place in its row. Tokens attend within their own segment only. */
  readonly segmentIds: Int32Array;
  readonly rows: number;
  readonly columns: number;
  readonly slots: readonly Slot[];
  /** Tokens that are not padding. */
  readonly tokens: number;
}

/** The loss rows of a batch, by slot and then by position: the order in which teacher rows are cached. */
export interface BatchTargets {
  /** Index into the flattened [rows × columns] batch of the position that predicts. */
  readonly positions: Int32Array;
  /** The token that follows that position. */
  readonly labels: Int32Array;
}

export interface BatchOptions {
  /** Rows per batch. */
  readonly batchSize: number;
  /** Tokens per row at most. */
  readonly maxLength: number;
  readonly packing: boolean;
  /** Batches of examples of similar length, in a few widths; not with `packing`. Default: false. */
  readonly groupByLength?: boolean;
  readonly seed: number;
  /** false: dataset order in every epoch (evaluation). */
  readonly shuffle: boolean;
  readonly padTokenId: number;
}

export interface BatchStats {
  readonly examples: number;
  readonly tokens: number;
  readonly rows: number;
  readonly batchesPerEpoch: number;
  /** Share of the computed positions that are padding, 0 to 1. */
  readonly paddingShare: number;
}

export interface Batches {
  readonly rows: number;
  /** Of the widest batch. */
  readonly columns: number;
  /** What `columns` a batch may have, ascending. */
  readonly widths: readonly number[];
  readonly batchesPerEpoch: number;
  readonly stats: BatchStats;
  /** Throws RangeError when `index` is outside [0, batchesPerEpoch). */
  batchAt(epoch: number, index: number): Batch;
}

/**
 * Plans batches over `examples`. Without packing a row holds one example and is as long as the longest one, rounded up to 8; with
 * `groupByLength` as long as the longest of its bucket.
 * A last batch that is not full is filled with rows of padding: no example is dropped. Throws MalformedError when there are no
 * examples or one is longer than a row.
 */
export function createBatches(examples: readonly Example[], options: BatchOptions): Batches {
  if (examples.length === 0) throw new MalformedError('dataset-empty', 'there are no examples to make batches of');
  const { batchSize, maxLength, packing, padTokenId } = options;
  const lengths = Int32Array.from(examples, (example) => example.inputIds.length);
  const longest = lengths.reduce((a, b) => Math.max(a, b), 0);
  const columns = packing ? maxLength : Math.min(maxLength, Math.ceil(longest / 8) * 8);
  const widths = options.groupByLength === true && !packing ? chooseWidths(lengths, maxLength, batchSize) : [columns];

  let planned = { epoch: 0, batches: planEpoch(0) };
  const batchesPerEpoch = planned.batches.length;
  const tokens = lengths.reduce((a, b) => a + b, 0);
  const positions = planned.batches.reduce((sum, batch) => sum + batchSize * batch.columns, 0);

  function planEpoch(epoch: number): PlannedBatch[] {
    const random = options.shuffle ? new RandomStream('data/order', options.seed, epoch) : null;
    const order = Int32Array.from(lengths, (_, i) => i);
    random?.shuffle(order);
    if (widths.length > 1) {
      const grouped = widths.flatMap((width, i) => {
        const members = order.filter((e) => lengths[e]! <= width && lengths[e]! > (widths[i - 1] ?? 0));
        return inBatches(packExamples(lengths, width, members, false), width);
      });
      return random === null ? grouped : shuffled(grouped, random);
    }
    const rows = packExamples(lengths, widths[0]!, order, packing);
    return inBatches(random === null ? rows : shuffled(rows, random), widths[0]!);
  }

  function inBatches(rows: readonly number[][], width: number): PlannedBatch[] {
    return Array.from({ length: Math.ceil(rows.length / batchSize) }, (_, i) => ({
      columns: width,
      rows: rows.slice(i * batchSize, (i + 1) * batchSize),
    }));
  }

  function batchAt(epoch: number, index: number): Batch {
    if (!(Number.isInteger(index) && index >= 0 && index < batchesPerEpoch)) {
      throw new RangeError(`batch ${index} is outside the epoch's ${batchesPerEpoch} batches`);
    }
    if (options.shuffle && planned.epoch !== epoch) planned = { epoch, batches: planEpoch(epoch) };
    return fillBatch(planned.batches[index]!, examples, batchSize, padTokenId);
  }

  const stats: BatchStats = {
    examples: examples.length,
    tokens,
    rows: planned.batches.reduce((sum, { rows }) => sum + rows.length, 0),
    batchesPerEpoch,
    paddingShare: 1 - tokens / positions,
  };
  return { rows: batchSize, columns: widths.at(-1)!, widths, batchesPerEpoch, stats, batchAt };
}

/** Rows of example indices, of one width. */
interface PlannedBatch {
  readonly columns: number;
  readonly rows: readonly (readonly number[])[];
}

function shuffled<T>(values: readonly T[], random: RandomStream): T[] {
  return Array.from(random.shuffle(Int32Array.from(values, (_, i) => i)), (i) => values[i]!);
}

function fillBatch(
  { columns, rows }: PlannedBatch,
  examples: readonly Example[],
  batchSize: number,
  padTokenId: number,
): Batch {
  const inputIds = new Int32Array(batchSize * columns).fill(padTokenId);
  const positionIds = new Int32Array(batchSize * columns);
  const segmentIds = new Int32Array(batchSize * columns);
  const slots: Slot[] = [];
  let used = 0;
  for (const [row, members] of rows.entries()) {
    let offset = 0;
    for (const [place, example] of members.entries()) {
      const ids = examples[example]!.inputIds;
      const start = row * columns + offset;
      inputIds.set(ids, start);
      segmentIds.fill(place + 1, start, start + ids.length);
      for (let t = 0; t < ids.length; t++) positionIds[start + t] = t;
      slots.push({ example, row, offset, length: ids.length });
      offset += ids.length;
    }
    used += offset;
  }
  return { inputIds, positionIds, segmentIds, rows: batchSize, columns, slots, tokens: used };
}

/** The loss rows of a batch. */
export function targetsOf(batch: Batch, examples: readonly Example[]): BatchTargets {
  const perSlot = batch.slots.map((slot) => teacherPositions(examples[slot.example]!));
  const count = perSlot.reduce((sum, positions) => sum + positions.length, 0);
  const positions = new Int32Array(count);
  const labels = new Int32Array(count);
  let at = 0;
  for (const [i, { row, offset }] of batch.slots.entries()) {
    for (const position of perSlot[i]!) {
      const flat = row * batch.columns + offset + position;
      positions[at] = flat;
      labels[at++] = batch.inputIds[flat + 1]!;
    }
  }
  return { positions, labels };
}
