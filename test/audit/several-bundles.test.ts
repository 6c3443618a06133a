import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { ancestorAlignment } from '../../src/audit/attacks/ancestor-alignment.js';
import { recording } from '../../src/audit/attacks/recording.js';
import { severalBundles } from '../../src/audit/attacks/several-bundles.js';
import { severalBundlesAncestor } from '../../src/audit/attacks/several-bundles-ancestor.js';
import { mergeBundles } from '../../src/audit/merge-bundles.js';
import { auditTarget, sharedRuns } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('two bundles of one model give what each of them hides', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 20, 4);
  const runs = { budgets: [1000], seeds: [1], steps: 2, learningRate: 5e-3, shared: sharedRuns() };
  const settings = { ...runs, attacks: [recording, severalBundles] };
  const blockInside = await locked('rotation', 'shielded:2');
  const tablesInside = await locked('permutation', 'shielded:embedding,0,head');

  // Each fills the other's gaps; the basis behind the inner block is tied to the one before it by the other bundle alone.
  for (const [mine, other] of [
    [blockInside, tablesInside],
    [tablesInside, blockInside],
  ] as const) {
    const merged = (await mergeBundles(control.config, [mine, other]))!;
    assert.equal(merged.blocks.size, control.config.numHiddenLayers);
    assert.deepEqual([...merged.tables].sort(), ['lm_head.weight', 'model.embed_tokens.weight']);
    const { findings } = await auditTarget({ ...mine, also: [other] }, control, lab, settings);
    const [alone, together] = findings.map(({ advantage }) => advantage.mean) as [number, number];
    assert.ok(findings[1]!.control.succeeded, `control ${findings[1]!.control.advantage}`);
    assert.ok(together > 0.9 && together > alone + 0.1, `${mine.placement}: alone ${alone}, together ${together}`);
    assert.equal(findings[1]!.verdict, 'broken');
  }

  // With an ancestor no licence is needed: what the ancestor has otherwise comes from the other bundle, not from the ancestor.
  const changed = (name: string): boolean => name.startsWith('model.layers.2.') && !name.includes('norm');
  const ancestor = new Map(
    [...control.weights].map(([name, data]) => [name, changed(name) ? data.map((x) => -x) : data]),
  );
  const attempt = { ...runs, seed: 1, budgetTokens: 1000, lessons: { examples: lab.texts, released: null } };
  const target = { ...blockInside, also: [tablesInside], ancestor };
  const alone = await lab.measure((await ancestorAlignment.run(target, attempt)).clone);
  const together = await lab.measure((await severalBundlesAncestor.run(target, attempt)).clone);
  assert.ok(together.agreement > 0.99 && together.kl < 1e-3, `together ${together.kl}`);
  assert.ok(alone.agreement < 0.9, `alone ${alone.agreement}`);

  // Locks of another model tie to nothing, and bundles that share no open part neither.
  const weights = new Map(
    [...control.weights].map(([name, data]) => [name, data.map((x, i) => x + ((i % 7) - 3) / 30)]),
  );
  const stranger = await mergeBundles(control.config, [blockInside, { ...control, weights }]);
  assert.ok(!stranger!.blocks.has(2));
  assert.match(severalBundles.idleReason(blockInside) ?? '', /no further bundle/);
  const inside = await locked('rotation', 'enclave');
  assert.match(severalBundles.idleReason({ ...inside, also: [blockInside] }) ?? '', /nothing to align/);
});
