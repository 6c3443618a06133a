// distillock audit --also: further bundles of the model, or placements to lock it into once more; bundles of another model are refused.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { auditReportSchema } from '../../src/audit/report.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { failure, json, lockStories, STORIES } from './command-line.js';

const SMALL = ['--quick', '--steps', '2', '--held_out_tokens', '200'];

test('a further bundle lets several-bundles run, and its absence leaves it out', async (t) => {
  const folder = await temporaryFolder(t);
  const mine = await lockStories(folder, 'mine', '--placement', 'shielded:2');
  const other = await lockStories(folder, 'other', '--placement', 'shielded:0', '--scheme', 'permutation');
  const given = ['audit', mine.bundle, '--model', STORIES, '--keys', mine.keys, ...SMALL];
  const report = auditReportSchema.parse(await json(...given, '--attacks', 'several-bundles', '--also', other.bundle));
  assert.deepEqual(report.settings.attacks, ['several-bundles']);
  const [row] = report.attacks;
  assert.equal(row!.idle, null);
  assert.equal(row!.verdict, 'broken');
  assert.match(report.command, /--also other\.lock/);

  assert.equal((await failure(...given, '--also', join(folder, 'nothing'))).code, 'manifest-missing');
});

test('without a bundle --also names placements', async () => {
  const places = ['--schemes', 'rotation', '--placements', 'shielded:2', '--also', 'shielded:0'];
  const report = auditReportSchema.parse(
    await json('audit', '--model', STORIES, ...places, '--attacks', 'several-bundles', ...SMALL),
  );
  assert.equal(report.attacks[0]!.placement, 'shielded:2');
  assert.equal(report.attacks[0]!.verdict, 'broken');
});
