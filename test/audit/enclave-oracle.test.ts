import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { enclaveOracle } from '../../src/audit/attacks/enclave-oracle.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('a surrogate of an enclave-held block learns from answers that cost no rows', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 10, 4);
  const settings = { attacks: [enclaveOracle], budgets: [400], seeds: [1], steps: 20, learningRate: 5e-3 };
  const { findings } = await auditTarget(await locked('rotation', 'shielded:2'), control, lab, settings);
  const [{ advantage, control: against, verdict, trials }] = findings as [(typeof findings)[0]];
  t.diagnostic(`advantage ${advantage.mean.toFixed(3)}, control ${against.advantage.toFixed(3)}`);
  assert.ok(against.advantage > 0.9);
  assert.notEqual(verdict, 'held');
  assert.ok(trials[0]!.recordedTokens <= 400);
  assert.match(enclaveOracle.idleReason(control) ?? '', /hidden states/);
});
