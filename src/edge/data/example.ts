// One training example: token ids and which of them count in the loss. Teacher rows and labels are aligned here and nowhere else.
// Zone: edge (DESIGN section 8). Row `p` of the teacher is its distribution after reading token p, so it belongs to label token p+1.
import { createHash } from 'node:crypto';
import { MalformedError } from '../../trusted/wire/errors.js';

export interface Example {
  readonly inputIds: Int32Array;
  /** 1 where token t counts as a target, predicted from position t-1; `lossMask[0]` is always 0. */
  readonly lossMask: Uint8Array;
}

/** Throws MalformedError when the lengths differ, the example is empty or its first token is marked as a target. */
export function createExample(inputIds: Int32Array, lossMask: Uint8Array): Example {
  if (inputIds.length === 0) throw new MalformedError('example-empty', 'an example needs at least one token');
  if (inputIds.length !== lossMask.length) {
    throw new MalformedError(
      'example-mask-length',
      `an example has ${inputIds.length} tokens but a mask of ${lossMask.length}`,
    );
  }
  if (lossMask[0] !== 0) {
    throw new MalformedError(
      'example-first-target',
      'the first token of an example has no position to be predicted from',
    );
  }
  return { inputIds, lossMask };
}

/** How many tokens count in the loss: the number of teacher rows that the example needs. */
export function countTargets(example: Example): number {
  let count = 0;
  for (const bit of example.lossMask) count += bit;
  return count;
}

/**
 * Positions whose teacher rows are captured, cached and trained on, ascending: p is listed when token p+1 is a target.
 * The label of row i is `inputIds[positions[i] + 1]`.
 */
export function teacherPositions(example: Example): Int32Array {
  const positions = new Int32Array(countTargets(example));
  let row = 0;
  for (let t = 1; t < example.lossMask.length; t++) if (example.lossMask[t] === 1) positions[row++] = t - 1;
  return positions;
}

/** SHA-256 (hex) over lengths, ids and masks in order: the `textHash` of the teacher cache. */
export function hashExamples(examples: readonly Example[]): string {
  const hash = createHash('sha256').update(`distillock/examples/v1/${examples.length}\n`);
  for (const { inputIds, lossMask } of examples) {
    hash.update(new Uint32Array([inputIds.length]));
    hash.update(inputIds);
    hash.update(lossMask);
  }
  return hash.digest('hex');
}
