// A locked model as its owner can run it, without an enclave process or a licence: the accelerator's segments as the edge runs them,
// the enclave-held parts by the enclave's own code in this process, the vocabulary's lock undone from the owner's seed.
import { closeSync, openSync, readSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import type { Bundle } from '../edge/bundle.js';
import { Accelerator } from '../edge/teacher/accelerator.js';
import { type Gate, openGate } from '../edge/teacher/gate.js';
import { askRows, forward, releaseRows } from '../edge/teacher/pass.js';
import type { LogProbabilities } from '../owner/compare-lock.js';
import type { OwnerKeys } from '../owner/owner-keys.js';
import { EnclaveParts, type Layout } from '../trusted/enclave/parts.js';
import { invertPermutation } from '../trusted/lock/stream.js';
import { vocabularyPermutation } from '../trusted/lock/vocabulary.js';
import { loadGraph } from '../trusted/platform/runtime.js';

export interface OwnerModel {
  readonly logProbabilities: LogProbabilities;
  close(): Promise<void>;
}

export async function openOwnerModel(bundle: Bundle, keys: OwnerKeys): Promise<OwnerModel> {
  const { dir, config, manifest } = bundle;
  const accelerator = await Accelerator.open(bundle.segments, config);
  const port = {
    memoryBytes: totalmem() / 4,
    readBundle: (path: string, offset: number, length: number) => readRange(join(dir, path), offset, length),
    loadGraph,
  };
  const parts = new EnclaveParts(port, manifest, keys.bundleKey);
  const vocabulary = vocabularyPermutation(keys.lockSeed, manifest.scheme, config.vocabSize);
  return {
    logProbabilities: logProbabilitiesOf(accelerator, ownerGate(parts, vocabulary, config.hiddenSize)),
    close: async () => {
      parts.erase();
      await accelerator.close();
    },
  };
}

/** Log-probabilities over the whole vocabulary at every position, through a gate that allows it. */
export function logProbabilitiesOf(accelerator: Accelerator, gate: Gate = openGate): LogProbabilities {
  const { vocabSize } = accelerator.config;
  return async (ids) => {
    const tokens = ids.length;
    const passed = await forward(accelerator, gate, ids, { batch: 1, tokens, lengths: [tokens] });
    const positions = Int32Array.from(ids, (_, i) => i);
    const { tokenIds, logprobs } = await releaseRows(gate, await askRows(accelerator, passed, positions, vocabSize, 1));
    const out = new Float32Array(logprobs.length).fill(Number.NaN);
    logprobs.forEach((logprob, i) => {
      out[Math.floor(i / vocabSize) * vocabSize + tokenIds[i]!] = logprob;
    });
    return out;
  };
}

/** What the enclave does for a session, with nothing metered. Token t is locked id vocabulary[t]. */
function ownerGate(parts: EnclaveParts, vocabulary: Int32Array, width: number): Gate {
  const tokenOf = invertPermutation(vocabulary);
  const whole = ({ lengths, tokens }: { readonly lengths: readonly number[]; readonly tokens: number }): Layout => {
    return { lengths: Int32Array.from(lengths), tokens, cache: null, past: 0 };
  };
  return {
    authorise: async (ids) => ids.map((id) => vocabulary[id]!),
    release: async ({ ids, logprobs }) => ({ tokenIds: ids.map((id) => tokenOf[id]!), logprobs }),
    embed: (ids, layout) => parts.enter(ids, whole(layout)),
    block: (segment, hidden, layout) => parts.run(segment, hidden, whole(layout)),
    async head(rows, k) {
      // Nothing was kept inside: `embed` and `block` hand out hidden states here.
      const hidden = rows as Float32Array;
      const { ids, logprobs } = await parts.head(
        hidden,
        Int32Array.from({ length: hidden.length / width }, (_, i) => i),
        k,
        1,
      );
      return { tokenIds: ids, logprobs };
    },
  };
}

function readRange(path: string, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const file = openSync(path, 'r');
  try {
    for (let at = 0; at < length; ) {
      const read = readSync(file, bytes, at, length - at, offset + at);
      if (read === 0) return bytes.subarray(0, at);
      at += read;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}
