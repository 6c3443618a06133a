// Several bundles of one model, locked apart: the attacker brings them into one basis, takes from each what the others hold inside, and
// needs a licence to one of them only to put the token ids in order: each token takes the open row that says what its recorded session
// released. Zone: owner (as attacker). What no bundle leaves open is learned from released rows.
import type { Student } from '../../edge/train/student.js';
import { spansOf } from '../../model/spans.js';
import { hasOpenParts, rebase, timesTransposed } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import type { HeadRows } from '../fit-head.js';
import { fitStudent } from '../fit-student.js';
import { mapRows, sideBySide } from '../match-rows.js';
import { type Merged, mergeBundles } from '../merge-bundles.js';
import { HEAD, inOrder } from '../open-parts.js';
import { orderByAnswers } from '../order-tokens.js';
import { type Recording, record } from '../recorder.js';
import type { Target } from '../target.js';
import { solve } from './recording.js';

export const severalBundles: Attack = {
  name: 'several-bundles',
  adversary: 'recorder',
  summary: 'align further bundles of the same model with this one and take from each what the others hold inside',
  sources: ['Collapse, arXiv 2609.10117', 'ArrowMatch, USENIX Security 2025'],
  idleReason: (target) => {
    if (target.also === undefined || target.also.length === 0) return 'no further bundle was given';
    if (target.config.norms !== 'pre') return 'not tried: models that normalise what sublayers hand out';
    return hasOpenParts(target) ? null : 'no weights lie outside the enclave: nothing to align';
  },
  control,
  run,
};

/** The unlocked model with its middle block taken away, and the whole of it as the further bundle. */
function control(unlocked: Target): Target {
  const middle = `model.layers.${Math.floor(unlocked.config.numHiddenLayers / 2)}.`;
  const weights = new Map([...unlocked.weights].filter(([name]) => !name.startsWith(middle)));
  const { scheme, plan } = unlocked;
  return { ...unlocked, weights, also: [{ scheme, plan, weights: unlocked.weights }] };
}

const JOINT_RATE = 0.1;

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  const { lessons, steps, learningRate, seed } = settings;
  const { examples } = lessons;
  const { config } = target;
  const seen = await record(target.runner, await target.session(), examples, { k: target.topK, temperature: 1 });
  const { clone, toClone } = solve(target, seen);
  rebase(clone, 0, null);
  const merged = await mergeBundles(config, [target, ...target.also!]);
  if (merged !== null) {
    exactHead(clone, merged, target, toClone);
    for (const [name, { data }] of merged.model.parameters)
      if (merged.blocks.has(Number(/^model\.layers\.(\d+)\./.exec(name)?.[1])))
        clone.parameters.get(name)!.data.set(data);
    const order = (await orderFromAnswers(merged, target, seen)) ?? (await orderFromTables(clone, merged, target));
    if (order !== null) takeTables(clone, merged, order);
  }
  const whole = merged !== null && merged.blocks.size === config.numHiddenLayers && merged.tables.size === 2;
  if (!whole) await fitStudent(clone, lessons, { steps, learningRate: JOINT_RATE * learningRate, seed });
  return { clone, recordedTokens: seen.releasedRows, queries: examples.length, bytes: seen.bytes };
}

/** A head that was solved from the last span's outputs: from the turn that recordings gave to the one that the bundles give. */
function exactHead(
  clone: Student,
  { turns }: Merged,
  target: Target,
  toClone: (rows: Float32Array, i: number) => Float32Array,
): void {
  const width = target.config.hiddenSize;
  const exact = turns.get(spansOf(target.plan).at(-1)!.basis);
  if (exact === undefined) return;
  const identity = Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
  const recorded = Float64Array.from(toClone(identity, Number.POSITIVE_INFINITY));
  const head = clone.parameters.get(HEAD)!.data;
  // rows·T took the head here, so rows·Tᵀ takes it back.
  head.set(timesTransposed(timesTransposed(head, recorded, width), exact, width));
}

function takeTables(clone: Student, { model, tables }: Merged, order: Int32Array): void {
  for (const table of tables)
    clone.parameters.get(table)!.data.set(inOrder(model.parameters.get(table)!.data, order, clone.config.hiddenSize));
}

/** Where the enclave holds the head and another bundle leaves it open: by what the head says at the states that went in. */
async function orderFromAnswers(
  { model, tables, turns }: Merged,
  target: Target,
  { traces }: Recording,
): Promise<Int32Array | null> {
  const { hiddenSize: width } = target.config;
  const turn = turns.get(spansOf(target.plan).at(-1)!.basis);
  if (turn === undefined || !tables.has(HEAD) || target.weights.has(HEAD)) return null;
  if (traces.some(({ headInput }) => headInput === null)) return null;
  // The merged head has the final gain in it, which these states have too.
  const gain = target.weights.get('model.norm.weight');
  const asked = traces.map(({ headInput, released }): HeadRows => {
    const plain = gain === undefined ? headInput! : headInput!.map((x, i) => x / gain[i % width]!);
    return { headInput: timesTransposed(plain, turn, width), released };
  });
  return orderByAnswers(model.parameters.get(HEAD)!.data, asked, width);
}

/** Otherwise each token takes the row nearest to what algebra makes of the recording; null where there is nothing to compare. */
async function orderFromTables(clone: Student, { model, tables }: Merged, target: Target): Promise<Int32Array | null> {
  const width = target.config.hiddenSize;
  // Behind blocks inside the enclave a token's mean is no row of the embedding.
  const { place, first, end } = spansOf(target.plan)[0]!;
  const entryKnown = place === 'accelerator' || first === end;
  const judged = [...tables].filter((table) => table === HEAD || entryKnown);
  if (judged.length === 0) return null;
  const side = (from: Student): Float32Array[] =>
    judged.map((table) => comparable(from.parameters.get(table)!.data, width));
  return mapRows(sideBySide(side(clone), width), sideBySide(side(model), width), width * judged.length);
}

/** Rows without their mean, which released answers say nothing about, of mean square 1. */
function comparable(rows: Float32Array, width: number): Float32Array {
  const n = rows.length / width;
  const mean = new Float64Array(width);
  rows.forEach((x, i) => {
    mean[i % width]! += x / n;
  });
  let squares = 0;
  rows.forEach((x, i) => {
    squares += (x - mean[i % width]!) ** 2 / rows.length;
  });
  const scale = 1 / Math.sqrt(Math.max(squares, 1e-30));
  return rows.map((x, i) => (x - mean[i % width]!) * scale);
}
