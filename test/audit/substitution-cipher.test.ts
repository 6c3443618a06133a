import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { bestAssignment } from '../../src/audit/assignment.js';
import { substitutionCipher } from '../../src/audit/attacks/substitution-cipher.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('the best assignment is the best of all', () => {
  const score = Float64Array.of(3, 5, 1, 4, 9, 2, 6, 8, 7);
  // 3+9+7, 3+2+8, 5+4+7, 5+2+6, 1+4+8, 1+9+6: the first.
  assert.deepEqual([...bestAssignment(score, 3)], [0, 1, 2]);
  assert.deepEqual([...bestAssignment(Float64Array.of(0, 1, 1, 0), 2)], [1, 0]);
});

test('a copier with embedding and head decodes the locked vocabulary', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 60, 10);
  const settings = { attacks: [substitutionCipher], budgets: [7000], seeds: [1], steps: 20, learningRate: 5e-3 };
  const { findings } = await auditTarget(await locked('rotation', 'accelerator'), control, lab, settings);
  const { advantage, control: own, verdict, trials } = findings[0]!;
  // The control's order is known to nobody either: the attack has to find it again.
  assert.ok(own.succeeded && own.advantage > 0.7, `control ${own.advantage}`);
  assert.ok(advantage.mean > 0.7, `${advantage.mean}`);
  assert.equal(verdict, 'broken');
  assert.equal(trials[0]!.queries, 0);
  assert.match(substitutionCipher.idleReason(await locked('rotation', 'shielded:embedding,head')) ?? '', /no text/);
});
