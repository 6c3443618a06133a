import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fineTuning } from '../../src/audit/attacks/fine-tuning.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('fine-tuning starts from what is readable: everything in the control, little behind a lock, nothing from the enclave', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 40, 6);
  const attacks = [
    fineTuning({ parts: 'all', percent: 100, licensed: false }),
    fineTuning({ parts: 'vocabulary', percent: 10, licensed: false }),
    fineTuning({ parts: 'all', percent: 100, licensed: true }),
  ];
  const settings = { attacks, budgets: [1500], seeds: [1], steps: 30, learningRate: 5e-3 };
  const { findings } = await auditTarget(await locked('rotation', 'accelerator'), control, lab, settings);
  for (const { attack, advantage, control: own, trials } of findings) {
    assert.ok(own.succeeded, `${attack}: control ${own.advantage}`);
    // A few steps do not find the vocabulary: the lock delays, and the curve over steps says for how long.
    assert.ok(advantage.mean < own.advantage, `${attack}: ${advantage.mean}`);
    assert.equal(trials[0]!.recordedTokens > 0, attack.includes('licensed'));
  }
  const inside = await locked('rotation', 'enclave');
  assert.match(attacks[0]!.idleReason(inside) ?? '', /no weights/);
});
