import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { type ProbeFinding, runProbes } from '../../src/audit/probe.js';
import { PROBES } from '../../src/audit/probes/index.js';
import { shieldedPlan, uniformPlan } from '../../src/model/spans.js';
import type { Plan } from '../../src/trusted/wire/manifest.js';
import { lockStories } from '../teacher/stories-teacher.js';

const PROTOCOL = PROBES.filter(({ name }) => !name.startsWith('outside-'));

const verdicts = (findings: readonly ProbeFinding[]): Record<string, string> =>
  Object.fromEntries(findings.map(({ probe, verdict }) => [probe, verdict]));

async function probed(folder: string, plan: Plan | null, names?: readonly string[]): Promise<ProbeFinding[]> {
  const locked = await lockStories(folder, plan === null ? {} : { plan });
  const probes = names === undefined ? PROTOCOL : PROBES.filter(({ name }) => names.includes(name));
  return runProbes(probes, { bundleDir: locked.bundleDir, keys: locked.keys, folder });
}

test('budget, order and frames hold; sealed state alone does not stop a rollback, leases do', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'dl-probe-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const findings = await probed(folder, null);
  for (const finding of findings)
    t.diagnostic(`${finding.probe}: ${finding.verdict}: ${finding.detail} | ${finding.control.detail}`);
  assert.deepEqual(verdicts(findings), {
    'parallel-sessions': 'held',
    'killed-process': 'held',
    rollback: 'broken',
    'rollback-leased': 'held',
    fork: 'broken',
    'fork-leased': 'held',
    'replayed-grant': 'held',
    'out-of-order': 'held',
    'broken-frames': 'held',
    'vocabulary-map': 'broken',
    'free-answers': 'idle',
    'corrupted-results': 'held',
    'replayed-session': 'held',
  });
  // Every control is an enclave that the same probe does break, or the probe had nothing to do.
  for (const { probe, control, verdict } of findings) if (verdict === 'held') assert.ok(control.succeeded, probe);
});

const results = ['vocabulary-map', 'free-answers', 'corrupted-results', 'out-of-order'];

test('parts inside: shielded ones answer free of charge, the enclave placement answers nothing', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'dl-probe-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const shielded = await probed(join(folder, 'shielded'), shieldedPlan(5, ['2']), results);
  for (const finding of shielded)
    t.diagnostic(`${finding.probe}: ${finding.verdict}: ${finding.detail} | ${finding.control.detail}`);
  assert.equal(verdicts(shielded)['free-answers'], 'broken');
  assert.equal(verdicts(shielded)['corrupted-results'], 'held');
  const inside = await probed(join(folder, 'inside'), uniformPlan(5, 'enclave'), results);
  for (const finding of inside)
    t.diagnostic(`${finding.probe}: ${finding.verdict}: ${finding.detail} | ${finding.control.detail}`);
  assert.deepEqual(verdicts(inside), {
    'out-of-order': 'held',
    'vocabulary-map': 'held',
    'free-answers': 'held',
    'corrupted-results': 'idle',
  });
});
