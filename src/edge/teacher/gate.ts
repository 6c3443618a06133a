// What stands between the data owner's token ids and the accelerator: for a locked teacher the enclave's session.
// Zone: edge. DESIGN section 6: authorise → locked inputs, release → token ids and log-probabilities.
import type { TopK } from './accelerator.js';

export interface Gate {
  /** Token ids → ids the accelerator understands. Throws PolicyError when the enclave refuses. */
  authorise(ids: Int32Array): Promise<Int32Array>;
  /** The accelerator's top-k → token ids and log-probabilities, charged to the budget before they are given out. */
  release(topK: TopK): Promise<{ readonly tokenIds: Int32Array; readonly logprobs: Float32Array }>;
}

/** No enclave: ids pass unchanged both ways. For an unlocked model, and for an attacker who was refused. */
export const openGate: Gate = {
  authorise: async (ids) => ids,
  release: async ({ ids, logprobs }) => ({ tokenIds: ids, logprobs }),
};

/** Opened at the first use: whoever needs nothing released needs no licence either. */
export function lazyGate(open: () => Promise<Gate>): Gate {
  let opened: Promise<Gate> | null = null;
  const gate = (): Promise<Gate> => {
    opened ??= open();
    return opened;
  };
  return {
    authorise: async (ids) => (await gate()).authorise(ids),
    release: async (topK) => (await gate()).release(topK),
  };
}
