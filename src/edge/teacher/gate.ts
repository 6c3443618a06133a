// What stands between the data owner's token ids and a teacher's answers: for a locked teacher the enclave's session.
// Zone: edge. DESIGN section 6: authorise → locked inputs; block → hidden; release → token ids and log-probabilities.
import type { BatchLayout, TopK } from './accelerator.js';

export interface Released {
  /** [rows, k], by falling log-probability. */
  readonly tokenIds: Int32Array;
  readonly logprobs: Float32Array;
}

/** Hidden states [batch × tokens, width], or the number of a pass whose hidden states the enclave keeps. */
export type Passed = Float32Array | { readonly pass: number };

/** `past`: null without a key/value cache, else how many tokens of the one sequence came before (0 starts a new cache). */
export interface EnclaveLayout extends BatchLayout {
  readonly past: number | null;
}

export interface Gate {
  /** Token ids → ids the accelerator's embedding understands. Throws PolicyError when the enclave refuses. */
  authorise(ids: Int32Array): Promise<Int32Array>;
  /** The accelerator's top-k → token ids and log-probabilities, charged to the budget before they are given out. */
  release(topK: TopK): Promise<Released>;
  /** Token ids of all rows, without padding, through an enclave-held first segment. */
  embed(ids: Int32Array, layout: EnclaveLayout): Promise<Passed>;
  /** Hidden states through an enclave-held segment between others. */
  block(segment: number, hidden: Float32Array, layout: EnclaveLayout): Promise<Passed>;
  /** Rows of hidden states [rows, width], or positions of a kept pass, through an enclave-held head; charged like `release`. */
  head(rows: Float32Array | { readonly pass: number; readonly positions: Int32Array }, k: number): Promise<Released>;
}

const noEnclave = (): never => {
  throw new RangeError('an unlocked model has no enclave-held parts');
};

/** No enclave: ids pass unchanged both ways. For an unlocked model, and for an attacker who was refused. */
export const openGate: Gate = {
  authorise: async (ids) => ids,
  release: async ({ ids, logprobs }) => ({ tokenIds: ids, logprobs }),
  embed: noEnclave,
  block: noEnclave,
  head: noEnclave,
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
    embed: async (ids, layout) => (await gate()).embed(ids, layout),
    block: async (segment, hidden, layout) => (await gate()).block(segment, hidden, layout),
    head: async (rows, k) => (await gate()).head(rows, k),
  };
}
