import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { assembleClone } from '../../src/audit/assemble.js';
import { ancestorAlignment } from '../../src/audit/attacks/ancestor-alignment.js';
import { ancestorLowRank } from '../../src/audit/attacks/ancestor-low-rank.js';
import { fitStudent } from '../../src/audit/fit-student.js';
import { auditTarget, sharedRuns } from '../../src/audit/run-audit.js';
import type { Target } from '../../src/audit/target.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { openStoriesLab, type StoriesLab } from './stories-lab.js';

const settings = { budgets: [500], seeds: [1], steps: 5, learningRate: 5e-3 };
type Weights = ReadonlyMap<string, Float32Array>;

async function openLab(t: TestContext): Promise<StoriesLab> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return openStoriesLab(t, folder, 20, 6);
}

/** The same model trained on for a while, on text alone. */
async function siblingOf({ lab, control }: StoriesLab): Promise<Weights> {
  const sibling = assembleClone(control, new Map());
  const lessons = { examples: lab.texts, released: null };
  await fitStudent(sibling, lessons, { steps: 30, learningRate: 2e-3, seed: 7 });
  return new Map([...sibling.parameters].map(([name, { data }]) => [name, data]));
}

/** The model before an update of rank 2 went into every matrix of its blocks, a LoRA's merge. */
function beforeMerge({ weights, config }: Target, size: number): Weights {
  const rank = 2;
  return new Map(
    [...weights].map(([name, data]) => {
      const width = name.includes('down_proj') ? config.intermediateSize : config.hiddenSize;
      if (!name.startsWith('model.layers.') || data.length === width) return [name, data];
      const random = new RandomStream(`test/lora/${name}`, 1);
      const b = Float64Array.from({ length: (rank * data.length) / width }, () => random.normal());
      const a = Float64Array.from({ length: rank * width }, () => random.normal());
      const deviation = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
      const update = (i: number): number => {
        const [row, column] = [Math.floor(i / width), i % width];
        let sum = 0;
        for (let r = 0; r < rank; r += 1) sum += b[row * rank + r]! * a[r * width + column]!;
        return (size * deviation * sum) / Math.sqrt(rank);
      };
      return [name, data.map((x, i) => x - update(i))];
    }),
  );
}

test('ancestors undo permutation and rotation, the very model and a fine-tuned sibling, and gain nothing where all lies inside', async (t) => {
  const opened = await openLab(t);
  const { lab, control, locked } = opened;
  const bundles = [await locked('permutation', 'accelerator'), await locked('rotation', 'accelerator')];
  const origin: Weights = control.weights;
  const sibling = await siblingOf(opened);
  for (const ancestor of [origin, sibling]) {
    const shared = sharedRuns();
    for (const bundle of bundles) {
      const target = { ...bundle, ancestor };
      const { findings } = await auditTarget(target, { ...control, ancestor }, lab, {
        ...settings,
        attacks: [ancestorAlignment],
        shared,
      });
      const { advantage, control: own, verdict } = findings[0]!;
      assert.ok(own.succeeded && own.advantage > 0.95, `control ${own.advantage}`);
      assert.ok(advantage.mean > (ancestor === origin ? 0.99 : 0.9), `${bundle.scheme}: ${advantage.mean}`);
      assert.equal(verdict, 'broken');
    }
  }
  const shielded = { ...(await locked('rotation', 'shielded:embedding,2,head')), ancestor: sibling };
  const { findings } = await auditTarget(shielded, { ...control, ancestor: sibling }, lab, {
    ...settings,
    attacks: [ancestorAlignment],
  });
  assert.ok(findings[0]!.advantage.mean > 0.05, `shielded ${findings[0]!.advantage.mean}`);
  const inside = { ...(await locked('rotation', 'enclave')), ancestor: sibling };
  assert.match(ancestorAlignment.idleReason(inside) ?? '', /nothing to align/);
  assert.match(ancestorAlignment.idleReason(control) ?? '', /no ancestor/);
});

test('an ancestor from before a low-rank merge needs the merge taken away', async (t) => {
  const opened = await openLab(t);
  const { lab, control, locked } = opened;
  const ancestor = beforeMerge(control, 0.5);
  const target = { ...(await locked('rotation', 'shielded:embedding,head')), ancestor };
  // Blocks come from the bundle and tables from the ancestor, so all that keeps a clone from the teacher is how far the turn between is off.
  const lessons = { examples: lab.texts, released: null };
  const attempt = { ...settings, lessons, seed: 1, budgetTokens: 500 };
  const plain = await lab.measure((await ancestorAlignment.run(target, attempt)).clone);
  const robust = await lab.measure((await ancestorLowRank.run(target, attempt)).clone);
  assert.ok(robust.kl < 1e-4 && robust.agreement > 0.99, `${robust.kl} nats`);
  assert.ok(plain.kl > 10 * robust.kl, `plain ${plain.kl}, with the merge taken away ${robust.kl}`);
});
