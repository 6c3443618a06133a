import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { assembleClone } from '../../src/audit/assemble.js';
import { ancestorAlignment } from '../../src/audit/attacks/ancestor-alignment.js';
import { fitStudent } from '../../src/audit/fit-student.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('an ancestor undoes permutation and rotation, and nothing is gained where all lies inside', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 20, 6);
  // A sibling: the same model trained on for a while, on text alone.
  const sibling = assembleClone(control, new Map());
  const lessons = { examples: lab.texts, released: null };
  await fitStudent(sibling, lessons, { steps: 30, learningRate: 2e-3, seed: 7 });
  const ancestor = new Map([...sibling.parameters].map(([name, { data }]) => [name, data]));
  const settings = { attacks: [ancestorAlignment], budgets: [500], seeds: [1], steps: 5, learningRate: 5e-3 };
  const audit = async (scheme: 'permutation' | 'rotation', placement: string) => {
    const target = { ...(await locked(scheme, placement)), ancestor };
    const { findings } = await auditTarget(target, { ...control, ancestor }, lab, settings);
    return findings[0]!;
  };
  for (const scheme of ['permutation', 'rotation'] as const) {
    const { advantage, control: own } = await audit(scheme, 'accelerator');
    assert.ok(own.succeeded && own.advantage > 0.95, `control ${own.advantage}`);
    assert.ok(advantage.mean > 0.9, `${scheme}: ${advantage.mean}`);
  }
  const shielded = await audit('rotation', 'shielded:embedding,2,head');
  assert.ok(shielded.advantage.mean > 0.05, `shielded ${shielded.advantage.mean}`);
  assert.match(
    ancestorAlignment.idleReason({ ...(await locked('rotation', 'enclave')), ancestor }) ?? '',
    /nothing to align/,
  );
  assert.match(ancestorAlignment.idleReason(control) ?? '', /no ancestor/);
});
