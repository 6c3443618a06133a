// One forward pass through a teacher, wherever its parts lie: segments on the accelerator, the rest through the gate.
// Zone: edge. DESIGN sections 4 and 6.
import type { Tensor } from '../../graph/runtime.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { Accelerator, BatchLayout, KeyValueCache, TopK } from './accelerator.js';
import type { EnclaveLayout, Gate, Passed, Released } from './gate.js';

/** What a forward pass needs of an accelerator; whoever wants to listen puts something else in its place. */
export type Runner = Pick<Accelerator, 'config' | 'places' | 'run' | 'topK'>;

/** Rows of ids without padding, one after the other, to the padded [batch × tokens]. */
function padded(ids: Int32Array, { batch, tokens, lengths }: BatchLayout): Int32Array {
  const out = new Int32Array(batch * tokens);
  let at = 0;
  lengths.forEach((length, row) => {
    out.set(ids.subarray(at, at + length), row * tokens);
    at += length;
  });
  return out;
}

/**
 * Token ids (all rows, no padding) → hidden states after the final norm, or the pass in which the enclave keeps them.
 * Throws MalformedError('positions-exceeded') for rows longer than the positions that a model has learned.
 */
export async function forward(accelerator: Runner, gate: Gate, ids: Int32Array, layout: BatchLayout): Promise<Passed> {
  const inside: EnclaveLayout = { ...layout, past: null };
  return through(accelerator, gate, ids, inside, (segment, input) => accelerator.run(segment, input, layout));
}

/** The same for the next tokens of one sequence, with a cache on both sides; `cache` null starts anew. */
export async function forwardNext(
  accelerator: Accelerator,
  gate: Gate,
  ids: Int32Array,
  cache: KeyValueCache | null,
): Promise<{ hidden: Passed; cache: KeyValueCache }> {
  const past = cache?.length ?? 0;
  const tensors: Record<string, Tensor> = {};
  const layout = { batch: 1, tokens: ids.length, lengths: [ids.length], past };
  const before = cache ?? { length: 0, tensors: {} };
  const hidden = await through(accelerator, gate, ids, layout, async (segment, input) => {
    const step = await accelerator.extend(segment, input, ids.length, before);
    Object.assign(tensors, step.grown);
    return step.hidden;
  });
  return { hidden, cache: { length: past + ids.length, tensors } };
}

async function through(
  accelerator: Runner,
  gate: Gate,
  ids: Int32Array,
  layout: EnclaveLayout,
  run: (segment: number, input: Int32Array | Float32Array) => Promise<Float32Array>,
): Promise<Passed> {
  const { places, config } = accelerator;
  const total = (layout.past ?? 0) + layout.tokens;
  if (config.positions === 'learned' && total > config.maxPositionEmbeddings) {
    throw new MalformedError(
      'positions-exceeded',
      `${total} tokens in a row, and the model has learned ${config.maxPositionEmbeddings} positions; use shorter texts (max_length).`,
      { tokens: total },
    );
  }
  let stream: Passed =
    places[0] === 'enclave' ? await gate.embed(ids, layout) : await run(0, padded(await gate.authorise(ids), layout));
  for (let segment = 1; segment < places.length - 1; segment += 1) {
    const hidden = stream as Float32Array;
    stream = places[segment] === 'enclave' ? await gate.block(segment, hidden, layout) : await run(segment, hidden);
  }
  return stream;
}

/** Rows of a pass on their way out: what the accelerator's head computed, or what the enclave's head is asked for. */
export type Rows =
  | { readonly from: 'accelerator'; readonly topK: TopK }
  | { readonly from: 'enclave'; readonly k: number; readonly rows: Parameters<Gate['head']>[0] };

/** Prepares the k most likely next tokens at `positions` (indices into the padded batch); nothing is charged yet. */
export async function askRows(
  accelerator: Runner,
  passed: Passed,
  positions: Int32Array,
  k: number,
  temperature: number,
): Promise<Rows> {
  if (!(passed instanceof Float32Array)) return { from: 'enclave', k, rows: { pass: passed.pass, positions } };
  const width = accelerator.config.hiddenSize;
  const hidden = new Float32Array(positions.length * width);
  positions.forEach((position, i) => {
    hidden.set(passed.subarray(position * width, (position + 1) * width), i * width);
  });
  if (accelerator.places.at(-1) === 'enclave') return { from: 'enclave', k, rows: hidden };
  return { from: 'accelerator', topK: await accelerator.topK(hidden, positions.length, k, temperature) };
}

/** Releases prepared rows: charged first, then given out. */
export function releaseRows(gate: Gate, rows: Rows): Promise<Released> {
  return rows.from === 'accelerator' ? gate.release(rows.topK) : gate.head(rows.rows, rows.k);
}
