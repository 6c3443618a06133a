import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { rankTest } from '../../src/audit/outside-traffic.js';
import { runProbes } from '../../src/audit/probe.js';
import { trafficProbes } from '../../src/audit/probes/traffic.js';
import { shieldedPlan } from '../../src/model/spans.js';
import { lockStories } from '../teacher/stories-teacher.js';

test('the exact rank test agrees with the published table', () => {
  assert.equal(rankTest([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), 2 / 252);
  assert.equal(rankTest([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]), 2 / 252);
  // n = m = 5, two-sided 5 %: the critical value is 2.
  assert.ok(rankTest([1, 2, 3, 5, 7], [4, 6, 8, 9, 10]) > 0.05);
  assert.ok(rankTest([1, 2, 3, 4, 7], [5, 6, 8, 9, 10]) < 0.05);
  assert.ok(rankTest([1, 4, 5, 8, 9], [2, 3, 6, 7, 10]) > 0.9);
});

test('two texts of one length cannot be told apart from outside; a leaking relay is caught', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'dl-probe-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const locked = await lockStories(folder, { plan: shieldedPlan(5, ['2']) });
  const [sizes, times] = await runProbes(trafficProbes, { bundleDir: locked.bundleDir, keys: locked.keys, folder });
  for (const { probe, verdict, detail, control } of [sizes!, times!])
    t.diagnostic(`${probe}: ${verdict}: ${detail} | ${control.detail}`);
  assert.ok(sizes!.control.succeeded, sizes!.control.detail);
  assert.match(sizes!.control.detail, /differ.*tcp connection/);
  assert.equal(sizes!.verdict, 'held');
  assert.match(sizes!.detail, /the same in all runs.*lease-request/);
  assert.doesNotMatch(sizes!.detail, /tcp connection/);
  assert.match(sizes!.detail, /names 48 charged tokens/);
  // Of the verdict itself chance decides once in a hundred runs.
  assert.ok(times!.control.succeeded, times!.control.detail);
});
