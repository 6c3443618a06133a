// What a training or evaluation graph is fed: a batch, its labels and the teacher's rows, in buffers that are reused.
// Zone: edge. The alignment of teacher rows and labels is data/example.ts's.
import type { Feeds } from '../../graph/runtime.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { TeacherRows } from '../cache/rows.js';
import { type Batch, type Batches, targetsOf } from '../data/batches.js';
import { countTargets, type Example } from '../data/example.js';

/** Examples, how they are batched, and where the teacher's rows of an example come from (null: text only). */
export interface TrainingData {
  readonly examples: readonly Example[];
  readonly batches: Batches;
  readonly teacher: {
    readonly k: number;
    /** Names where the rows are from; a run is resumed with the same. */
    readonly source?: string;
    readExample(example: number): TeacherRows;
  } | null;
}

/** Fills feeds for graphs over [rows, columns] batches with k teacher entries per position (0: none). */
export class FeedBuffers {
  readonly #rows: number;
  readonly #columns: number;
  readonly #k: number;
  readonly #vocabSize: number;
  readonly #labels: Int32Array;
  readonly #weights: Float32Array;
  readonly #ids: Int32Array;
  readonly #logprobs: Float32Array;
  readonly #tail: Float32Array;

  constructor(rows: number, columns: number, k: number, vocabSize: number) {
    const positions = rows * columns;
    this.#rows = rows;
    this.#columns = columns;
    this.#k = k;
    this.#vocabSize = vocabSize;
    this.#labels = new Int32Array(positions);
    this.#weights = new Float32Array(positions);
    this.#ids = new Int32Array(positions * k);
    this.#logprobs = new Float32Array(positions * k);
    this.#tail = new Float32Array(positions);
  }

  /**
   * Feeds for one batch; every row that counts weighs `rowWeight`. They share this object's buffers: run before the next fill.
   * Throws MalformedError for a token or teacher id outside the student's vocabulary.
   */
  fill(data: TrainingData, batch: Batch, rowWeight: number): Feeds {
    const positions = this.#rows * this.#columns;
    const { positions: targets, labels } = targetsOf(batch, data.examples);
    this.#labels.fill(0);
    this.#weights.fill(0);
    for (let i = 0; i < targets.length; i += 1) {
      this.#labels[targets[i]!] = this.#checked(labels[i]!, 'token');
      this.#weights[targets[i]!] = rowWeight;
    }
    for (const id of batch.inputIds) this.#checked(id, 'token');
    const shape = [this.#rows, this.#columns];
    const feeds: Feeds = {
      input_ids: { data: batch.inputIds, shape },
      position_ids: { data: BigInt64Array.from(batch.positionIds, BigInt), shape },
      segment_ids: { data: batch.segmentIds, shape },
      labels: { data: this.#labels, shape: [positions, 1] },
      row_weight: { data: this.#weights, shape: [positions, 1] },
    };
    if (this.#k === 0 || data.teacher === null) return feeds;
    this.#fillTeacher(data.teacher, batch, targets);
    return {
      ...feeds,
      teacher_ids: { data: this.#ids, shape: [positions, this.#k] },
      teacher_logprobs: { data: this.#logprobs, shape: [positions, this.#k] },
      teacher_tail: { data: this.#tail, shape: [positions, 1] },
    };
  }

  #fillTeacher(teacher: NonNullable<TrainingData['teacher']>, batch: Batch, targets: Int32Array): void {
    const k = this.#k;
    this.#ids.fill(0);
    this.#logprobs.fill(0);
    this.#tail.fill(0);
    let at = 0;
    for (const slot of batch.slots) {
      const rows = teacher.readExample(slot.example);
      for (let row = 0; row < rows.rows; row += 1, at += 1) {
        const position = targets[at]!;
        for (let i = 0; i < k; i += 1) {
          this.#ids[position * k + i] = this.#checked(rows.tokenIds[row * k + i]!, 'teacher');
          this.#logprobs[position * k + i] = rows.logprobs[row * k + i]!;
        }
        this.#tail[position] = rows.tail[row]!;
      }
    }
  }

  #checked(id: number, what: 'token' | 'teacher'): number {
    if (id >= 0 && id < this.#vocabSize) return id;
    throw new MalformedError(
      'vocabulary-mismatch',
      `${what} id ${id} is outside the student's vocabulary of ${this.#vocabSize}: give the student the teacher's vocab_size`,
      { id, vocabSize: this.#vocabSize },
    );
  }
}

/** Positions of a batch that count in the loss. */
export function targetCount(data: TrainingData, batch: Batch): number {
  return batch.slots.reduce((sum, { example }) => sum + countTargets(data.examples[example]!), 0);
}
