import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { chosenInputs } from '../../src/audit/attacks/chosen-inputs.js';
import { recording } from '../../src/audit/attacks/recording.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('choosing inputs beats recording where embedding and head lie inside, and its control breaks the unlocked model', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 60, 10);
  const settings = { attacks: [recording, chosenInputs], budgets: [2000], seeds: [1], steps: 40, learningRate: 5e-3 };
  const { findings } = await auditTarget(await locked('rotation', 'shielded:embedding,head'), control, lab, settings);
  const [recorded, chosen] = findings;
  t.diagnostic(`recording ${recorded!.advantage.mean.toFixed(3)}, chosen inputs ${chosen!.advantage.mean.toFixed(3)}`);
  assert.ok(chosen!.control.advantage > 0.9, `control ${chosen!.control.advantage}`);
  assert.ok(chosen!.advantage.mean > recorded!.advantage.mean + 0.1);
  const [trial] = chosen!.trials;
  assert.ok(trial!.recordedTokens <= 2000, `${trial!.recordedTokens} rows released on a budget of 2000`);
});
