// Hidden states of an unlocked model, in one pass and token by token. Not a test itself.
import type { Accelerator, KeyValueCache } from '../../src/edge/teacher/accelerator.js';
import { openGate } from '../../src/edge/teacher/gate.js';
import { forwardNext } from '../../src/edge/teacher/pass.js';

/** Hidden states [batch × tokens, width] of right-padded rows. */
export function hiddenStates(
  accelerator: Accelerator,
  batch: {
    readonly ids: Int32Array;
    readonly batch: number;
    readonly tokens: number;
    readonly lengths: readonly number[];
  },
): Promise<Float32Array> {
  return accelerator.run(0, batch.ids, batch);
}

/** The next tokens of one sequence. */
export async function extend(
  accelerator: Accelerator,
  ids: Int32Array,
  cache: KeyValueCache | null,
): Promise<{ hidden: Float32Array; cache: KeyValueCache }> {
  const step = await forwardNext(accelerator, openGate, ids, cache);
  return { hidden: step.hidden as Float32Array, cache: step.cache };
}
