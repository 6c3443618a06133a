// A public ancestor unlocks its descendant: the locked weights are aligned with the checkpoint that the teacher was fine-tuned from (or
// another child of it), turned back into the plain basis, and what the enclave holds is taken from the ancestor. Zone: owner (as attacker).
// The line of this adversary is the better one of black-box and the ancestor as it is: what the bundle adds to it is the advantage.
import type { Parameter, Student } from '../../edge/train/student.js';
import { expectedTensors } from '../../model/checkpoint/expected-tensors.js';
import { spansOf } from '../../model/spans.js';
import { type Alignment, alignBasis, type ItemSet } from '../align-basis.js';
import { assembleClone, hasOpenParts, rebase, timesTransposed } from '../assemble.js';
import type { Attack, Attempt } from '../attack.js';
import { cloneConfig } from '../locked-weights.js';
import type { Target } from '../target.js';

export const ancestorAlignment: Attack = {
  name: 'ancestor-alignment',
  adversary: 'ancestor',
  summary: 'align locked weights with a public ancestor (Gram matching, Procrustes), take held parts from the ancestor',
  sources: [
    'ArrowMatch, arXiv 2602.11088',
    'orthogonal Procrustes (Schönemann 1966)',
    'iterative closest point (Besl and McKay 1992)',
  ],
  idleReason: (target) => {
    if (target.ancestor === undefined) return 'no ancestor was given';
    if (target.config.norms !== 'pre') return 'not tried: models that normalise what sublayers hand out';
    return hasOpenParts(target) ? null : 'no weights lie outside the enclave: nothing to align';
  },
  run: async (target): Promise<Attempt> => {
    const baseline = ancestorStudent(target);
    return { clone: alignClone(target), baseline, recordedTokens: 0, queries: 0, bytes: 0 };
  },
};

const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

/** The ancestor as it is. */
function ancestorStudent({ config, ancestor }: Target): Student {
  const untied = cloneConfig(config);
  const parameters = new Map<string, Parameter>();
  for (const { name, shape } of expectedTensors(untied)) {
    const data = ancestor!.get(name) ?? (name === HEAD ? ancestor!.get(EMBEDDING) : undefined);
    if (data === undefined) throw new RangeError(`the ancestor has no ${name}`);
    parameters.set(name, { data: data.slice(), shape });
  }
  return { config: untied, parameters, tokenizer: null };
}

function alignClone(target: Target): Student {
  const { config, weights, scheme } = target;
  const width = config.hiddenSize;
  const clone = ancestorStudent(target);
  // Gains into their readers, on both sides: then a permutation is a rotation like any other.
  rebase(clone, 0, identity(width));
  const spans = spansOf(target.plan).filter(({ place }) => place === 'accelerator');
  // The head's gain is in the bundle only with the final norm; a rotation has folded it already.
  const headReadable = weights.has(HEAD) && (scheme === 'rotation' || weights.has('model.norm.weight'));
  const ancestor = new Map([...clone.parameters].map(([name, { data }]) => [name, data.slice()]));
  for (const basis of new Set(spans.map((span) => span.basis))) {
    const locked = assembleClone(target, new Map());
    rebase(locked, 0, identity(width));
    const inside = spans.filter((span) => span.basis === basis);
    const blocks = inside.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, i) => first + i));
    const tables = [
      ...(inside.some(({ embedding }) => embedding) ? [EMBEDDING] : []),
      ...(inside.some(({ head }) => head) && headReadable ? [HEAD] : []),
    ];
    const side = (names: readonly string[], of: (name: string) => Float32Array): Float32Array[] => names.map(of);
    const set = (names: readonly string[]): ItemSet => ({
      ancestor: side(names, (name) => ancestor.get(name)!),
      locked: side(names, (name) => locked.parameters.get(name)!.data),
    });
    const neuron = config.gatedMlp ? 'gate_proj' : 'up_proj';
    const sets = [
      ...(tables.length > 0 ? [set(tables)] : []),
      ...blocks.map((block) => set([`model.layers.${block}.mlp.${neuron}.weight`])),
    ];
    if (sets.length === 0) continue;
    takeBack(clone, locked, alignBasis(sets, width), blocks, tables);
  }
  return clone;
}

/** Blocks and tables of `locked` into `clone`, in the plain basis and order. */
function takeBack(
  clone: Student,
  locked: Student,
  { q, maps }: Alignment,
  blocks: readonly number[],
  tables: readonly string[],
): void {
  const width = clone.config.hiddenSize;
  const put = (name: string, data: Float32Array): void => clone.parameters.get(name)!.data.set(data);
  if (tables.includes(EMBEDDING)) {
    const embedding = locked.parameters.get(EMBEDDING)!.data;
    embedding.set(timesTransposed(embedding, q, width));
  }
  rebase(locked, 0, q);
  for (const table of tables) put(table, inOrder(locked.parameters.get(table)!.data, maps[0]!, width));
  for (const [name, { data }] of locked.parameters)
    if (blocks.some((block) => name.startsWith(`model.layers.${block}.`))) put(name, data);
}

function inOrder(rows: Float32Array, map: Int32Array, width: number): Float32Array {
  const out = new Float32Array(rows.length);
  map.forEach((from, item) => {
    out.set(rows.subarray(from * width, (from + 1) * width), item * width);
  });
  return out;
}

function identity(width: number): Float64Array {
  return Float64Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
}
