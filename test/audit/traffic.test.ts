import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { rankTest } from '../../src/audit/outside-traffic.js';
import { runProbes } from '../../src/audit/probe.js';
import { traffic } from '../../src/audit/probes/traffic.js';
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
  const [finding] = await runProbes([traffic], { bundleDir: locked.bundleDir, keys: locked.keys, folder });
  t.diagnostic(`${finding!.verdict}: ${finding!.detail} | ${finding!.control.detail}`);
  assert.ok(finding!.control.succeeded, finding!.control.detail);
  assert.match(finding!.control.detail, /differ.*tcp connection/);
  assert.match(finding!.detail, /the same in all runs.*lease-request/);
  assert.doesNotMatch(finding!.detail, /tcp connection/);
  assert.match(finding!.detail, /names 48 charged tokens/);
});
