import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { recording } from '../../src/audit/attacks/recording.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('recording clones what lies on the accelerator, and gets black-box answers from the enclave', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 60, 10);
  const settings = { attacks: [recording], budgets: [2000], seeds: [1], steps: 40, learningRate: 5e-3 };
  const audit = async (scheme: 'permutation' | 'rotation', placement: string) => {
    const { findings } = await auditTarget(await locked(scheme, placement), control, lab, settings);
    return findings[0]!;
  };
  for (const scheme of ['permutation', 'rotation'] as const) {
    const outside = await audit(scheme, 'accelerator');
    assert.equal(outside.verdict, 'broken');
    assert.ok(outside.advantage.mean > 0.9, `${scheme}: ${outside.advantage.mean}`);
  }
  // One block inside: the bases on its two sides are aligned, so all but the block itself is taken.
  const shielded = await audit('rotation', 'shielded:2');
  assert.notEqual(shielded.verdict, 'held');
  const inside = await audit('rotation', 'enclave');
  assert.equal(inside.verdict, 'held');
  assert.match(inside.idle ?? '', /released answers/);
  assert.ok(Math.abs(inside.advantage.mean) < 1e-9);
  assert.ok(inside.control.succeeded && inside.control.advantage > 0.9);
});
