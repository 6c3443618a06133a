// Puts a clone together from what an attacker has: readable weights, tables and matrices fitted to recordings, and identity where the
// enclave holds a block that nobody has fitted. Zone: owner (as attacker).
import type { Parameter, Student } from '../edge/train/student.js';
import { expectedTensors } from '../model/checkpoint/expected-tensors.js';
import { spansOf } from '../model/spans.js';
import { cloneConfig } from './locked-weights.js';
import type { Target } from './target.js';

/**
 * A student of the teacher's shape. `found` wins over the bundle's weights; gains that nobody has are 1; other weights that nobody has
 * are 0, which makes a block pass its input on.
 */
export function assembleClone(
  target: Pick<Target, 'config' | 'weights'>,
  found: ReadonlyMap<string, Float32Array>,
): Student {
  const config = cloneConfig(target.config);
  const parameters = new Map<string, Parameter>();
  for (const { name, shape } of expectedTensors(config)) {
    const size = shape.reduce((a, b) => a * b, 1);
    const known = found.get(name) ?? target.weights.get(name);
    const data =
      known === undefined ? new Float32Array(size).fill(name.endsWith('norm.weight') ? 1 : 0) : known.slice();
    if (data.length !== size) throw new RangeError(`${name}: ${data.length} values for ${shape.join('×')}`);
    parameters.set(name, { data, shape });
  }
  return { config, parameters, tokenizer: null };
}

/** Blocks inside the enclave. */
export function heldBlocks({ plan }: Target): number[] {
  return plan.blocks.flatMap((place, block) => (place === 'enclave' ? [block] : []));
}

/** Whether any of the model lies outside the enclave. */
export function hasOpenParts({ plan }: Target): boolean {
  return [plan.embedding, ...plan.blocks, plan.head].includes('accelerator');
}

/** Enclave-held spans between two accelerator spans: number of the span, and the first block behind it. */
export function heldBetween({ plan }: Target): { readonly segment: number; readonly next: number }[] {
  return spansOf(plan).flatMap(({ place, embedding, head, index, end }) =>
    place === 'enclave' && !embedding && !head ? [{ segment: index, next: end }] : [],
  );
}

const READERS = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'mlp.gate_proj', 'mlp.up_proj'];
const WRITERS = ['self_attn.o_proj', 'mlp.down_proj'];

/**
 * Brings blocks from `first` on, final norm and head from the basis they are written in to the one before: `q` [width, width] takes a
 * residual of that basis to theirs (x·q); null only folds gains. Gains are folded into their readers first, as RMSNorm without gain
 * commutes with any q.
 */
export function rebase(student: Student, first: number, q: Float64Array | null): void {
  for (let block = first; block < student.config.numHiddenLayers; block += 1) rebaseBlock(student, block, q);
  rebaseHead(student, q);
}

/** One block alone. */
export function rebaseBlock(student: Student, block: number, q: Float64Array | null): void {
  const width = student.config.hiddenSize;
  const part = (name: string): string => `model.layers.${block}.${name}`;
  foldGain(student, part('input_layernorm'), READERS.slice(0, 3).map(part));
  foldGain(student, part('post_attention_layernorm'), READERS.slice(3).map(part));
  if (q === null) return;
  for (const name of READERS) turnReader(student, part(name), q);
  for (const name of WRITERS) {
    const data = weightOf(student, part(name))!;
    data.set(timesMatrix(q, data, width));
  }
}

/** Final norm and head alone. */
export function rebaseHead(student: Student, q: Float64Array | null): void {
  foldGain(student, 'model.norm', ['lm_head']);
  if (q !== null) turnReader(student, 'lm_head', q);
}

function weightOf({ parameters }: Student, name: string): Float32Array | undefined {
  return parameters.get(`${name}.weight`)?.data;
}

function foldGain(student: Student, norm: string, readers: readonly string[]): void {
  const width = student.config.hiddenSize;
  const gain = weightOf(student, norm)!;
  for (const reader of readers) {
    const data = weightOf(student, reader);
    for (let i = 0; data !== undefined && i < data.length; i += 1) data[i]! *= gain[i % width]!;
  }
  gain.fill(1);
}

function turnReader(student: Student, name: string, q: Float64Array): void {
  const data = weightOf(student, name);
  if (data !== undefined) data.set(timesTransposed(data, q, student.config.hiddenSize));
}

/** rows·qᵀ for rows [n, width]. */
export function timesTransposed(data: Float32Array, q: Float64Array, width: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let at = 0; at < data.length; at += width)
    for (let i = 0; i < width; i += 1) {
      let sum = 0;
      for (let j = 0; j < width; j += 1) sum += data[at + j]! * q[i * width + j]!;
      out[at + i] = sum;
    }
  return out;
}

// q·W for W [width, in].
function timesMatrix(q: Float64Array, data: Float32Array, width: number): Float32Array {
  const inputs = data.length / width;
  const out = new Float64Array(data.length);
  for (let i = 0; i < width; i += 1)
    for (let j = 0; j < width; j += 1) {
      const x = q[i * width + j]!;
      for (let c = 0; c < inputs; c += 1) out[i * inputs + c]! += x * data[j * inputs + c]!;
    }
  return Float32Array.from(out);
}
