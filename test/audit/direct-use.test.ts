import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { directUse } from '../../src/audit/attacks/direct-use.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('without its enclave a locked model answers nothing of use', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 40, 6);
  const settings = { attacks: [directUse], budgets: [1500], seeds: [1], steps: 30, learningRate: 5e-3 };
  const { findings } = await auditTarget(await locked('permutation', 'accelerator'), control, lab, settings);
  const { advantage, control: own, verdict } = findings[0]!;
  assert.ok(own.succeeded && own.advantage > 0.95, `control ${own.advantage}`);
  assert.ok(advantage.mean <= 0.05, `${advantage.mean}`);
  assert.equal(verdict, 'held');
  assert.match(directUse.idleReason(await locked('rotation', 'shielded:0')) ?? '', /nothing answers/);
});
