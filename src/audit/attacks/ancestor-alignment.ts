// A public ancestor unlocks its descendant: the locked weights are aligned with the checkpoint that the teacher was fine-tuned from (or
// another child of it), turned back into the plain basis, and what the enclave holds is taken from the ancestor. Zone: owner (as attacker).
// The line of this adversary is the better one of black-box and the ancestor as it is: what the bundle adds to it is the advantage.
import type { Parameter, Student } from '../../edge/train/student.js';
import { expectedTensors } from '../../model/checkpoint/expected-tensors.js';
import { type Alignment, type AlignOptions, alignBasis, type ItemSet } from '../align-basis.js';
import { assembleClone, hasOpenParts, rebase, rebaseBlock, timesTransposed } from '../assemble.js';
import type { Attack, Attempt } from '../attack.js';
import { cloneConfig } from '../locked-weights.js';
import { basesOf, EMBEDDING, HEAD, inOrder, openTables } from '../open-parts.js';
import type { Target } from '../target.js';

export const ancestorAlignment: Attack = {
  name: 'ancestor-alignment',
  adversary: 'ancestor',
  summary: 'align locked weights with a public ancestor (Gram matching, Procrustes), take held parts from the ancestor',
  sources: [
    'ArrowMatch, USENIX Security 2025',
    'orthogonal Procrustes (Schönemann 1966)',
    'iterative closest point (Besl and McKay 1992)',
  ],
  idleReason: nothingToAlign,
  run: (target) => alignWithAncestor(target, {}),
};

/** Why an ancestor is of no use; null when it is. */
export function nothingToAlign(target: Target): string | null {
  if (target.ancestor === undefined) return 'no ancestor was given';
  if (target.config.norms !== 'pre') return 'not tried: models that normalise what sublayers hand out';
  return hasOpenParts(target) ? null : 'no weights lie outside the enclave: nothing to align';
}

export async function alignWithAncestor(target: Target, options: AlignOptions): Promise<Attempt> {
  const baseline = ancestorStudent(target);
  return { clone: await alignClone(target, options), baseline, recordedTokens: 0, queries: 0, bytes: 0 };
}

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

async function alignClone(target: Target, options: AlignOptions): Promise<Student> {
  const { config } = target;
  const clone = ancestorStudent(target);
  // Gains into their readers, on both sides: then a permutation is a rotation like any other.
  rebase(clone, 0, null);
  const locked = assembleClone(target, new Map());
  rebase(locked, 0, null);
  const tables = openTables(target);
  const neuron = config.gatedMlp ? 'gate_proj' : 'up_proj';
  const neurons = (block: number): string => `model.layers.${block}.mlp.${neuron}.weight`;
  // Parts of one span are written over only when it is aligned, so the other spans still find the ancestor's.
  const set = (names: readonly string[]): ItemSet => ({
    ancestor: names.map((name) => clone.parameters.get(name)!.data),
    locked: names.map((name) => locked.parameters.get(name)!.data),
  });
  for (const { blocks, embedding, head } of basesOf(target)) {
    const own = tables.filter((name) => (name === EMBEDDING ? embedding : head));
    const sets = [...(own.length > 0 ? [set(own)] : []), ...blocks.map((block) => set([neurons(block)]))];
    if (sets.length === 0) continue;
    const alignment = await alignBasis(sets, config.hiddenSize, options);
    await takeBack({ clone, locked }, alignment, blocks, own);
  }
  return clone;
}

/** Blocks and tables of `locked` into `clone`, in the plain basis and order. */
async function takeBack(
  { clone, locked }: { readonly clone: Student; readonly locked: Student },
  { q, map }: Alignment,
  blocks: readonly number[],
  tables: readonly string[],
): Promise<void> {
  const width = clone.config.hiddenSize;
  const order = tables.length > 0 ? await map(0) : new Int32Array(0);
  for (const table of tables) {
    const rows = timesTransposed(locked.parameters.get(table)!.data, q, width);
    clone.parameters.get(table)!.data.set(inOrder(rows, order, width));
  }
  for (const block of blocks) {
    rebaseBlock(locked, block, q);
    for (const [name, { data }] of locked.parameters)
      if (name.startsWith(`model.layers.${block}.`)) clone.parameters.get(name)!.data.set(data);
  }
}
