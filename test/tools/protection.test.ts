// tools/protection.mjs: the README's table and the packed summary follow the recorded audits, and a stale one fails the check.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readSummary, summarise } from '../../src/audit/summary.js';
import { temporaryFolder } from '../owner/tiny-model.js';

const BEGIN = '<!-- protection: written by tools/protection.mjs from docs/results/audit-*.json, do not edit -->';

function protection(root: string, ...flags: readonly string[]): { code: number | null; err: string } {
  const script = join('tools', 'protection.mjs');
  const { status, stderr } = spawnSync(process.execPath, [script, '--root', root, ...flags], { encoding: 'utf8' });
  return { code: status, err: stderr };
}

// biome-ignore lint/suspicious/noExplicitAny: JSON that the test changes.
async function example(): Promise<any> {
  const page = await readFile(join('docs', 'results', 'SCHEMA.md'), 'utf8');
  return JSON.parse(/```json audit\n([\s\S]*?)```/.exec(page)![1]!);
}

async function project(
  t: TestContext,
): Promise<{ root: string; record: (name: string, audit: unknown) => Promise<void> }> {
  const root = await temporaryFolder(t);
  await mkdir(join(root, 'docs', 'results'), { recursive: true });
  await writeFile(join(root, 'README.md'), `# A\n\nbefore\n${BEGIN}\n<!-- /protection -->\nafter\n`);
  const record = (name: string, audit: unknown): Promise<void> =>
    writeFile(join(root, 'docs', 'results', name), JSON.stringify(audit));
  return { root, record };
}

test('the table says by argument what nobody measured, and what was measured as it came out', async (t) => {
  const { root, record } = await project(t);
  assert.equal(protection(root).code, 0);
  const readme = (): Promise<string> => readFile(join(root, 'README.md'), 'utf8');
  assert.match(await readme(), /\| recorder \|[^\n]*By argument/);
  const audit = await example();
  const [broken] = audit.attacks;
  const held = { ...broken, placement: 'enclave', advantage: 0, worst: 0.01, verdict: 'held', idle: 'no' };
  const early = { ...broken, budgetTokens: 10, worst: 0.01, verdict: 'held' };
  const stronger = { ...broken, attack: 'learning-parts', worst: 0.7 };
  await record('audit-my-model.json', { ...audit, attacks: [broken, { ...broken, seed: 1 }, held, early, stronger] });
  assert.equal(protection(root).code, 0);
  const text = await readme();
  const recorder = text.split('\n').find((line) => line.startsWith('| recorder |'))!;
  const [, , , inside, shielded, outside] = recorder.split('|');
  assert.match(inside!, /Held, advantage 0\.01 \(nothing to work on, my-model, 1,000 tokens\)/);
  assert.match(shielded!, /\*\*Broken\*\*, advantage 0\.70 \(learning-parts, `embedding,0,head`, my-model/);
  assert.match(outside!, /By argument/);
  const tamperer = text
    .split('\n')
    .find((line) => line.startsWith('| tamperer |'))!
    .split('|');
  assert.match(tamperer[4]!, /Probes: \*\*Broken\*\*: rollback\./);
  assert.doesNotMatch(tamperer[3]!, /Probes/);
  assert.match(
    text,
    /\| my-model \| rotation \| `shielded:embedding,0,head` \| learning-parts \(recorder\) \|[^\n]*\*\*broken\*\*/,
  );
  assert.match(text, /^# A\n\nbefore\n[\s\S]*\nafter\n$/);
  const { audits } = await readSummary(join(root, 'assets', 'audit', 'summary.json'));
  assert.equal(audits[0]!.rows.length, 3);
  // `advise --audits` sees an audit as this script does.
  const report = JSON.parse(await readFile(join(root, 'docs', 'results', 'audit-my-model.json'), 'utf8'));
  assert.deepEqual(summarise(report, 'docs/results/audit-my-model.json'), audits[0]);
});

test('a stale table or summary fails the check, and only writing it again helps', async (t) => {
  const { root, record } = await project(t);
  const audit = await example();
  await record('audit-my-model.json', audit);
  const stale = protection(root, '--check');
  assert.equal(stale.code, 1);
  assert.match(stale.err, /README\.md:1: stale/);
  assert.match(stale.err, /assets\/audit\/summary\.json:1: stale/);
  assert.equal(protection(root).code, 0);
  assert.equal(protection(root, '--check').code, 0);
  const file = join(root, 'README.md');
  await writeFile(file, (await readFile(file, 'utf8')).replace('**broken**', 'held'));
  assert.match(protection(root, '--check').err, /README\.md:1: stale/);
  assert.equal(protection(root).code, 0);
  await record('audit-my-model.json', { ...audit, attacks: [{ ...audit.attacks[0], worst: 0.9 }] });
  assert.equal(protection(root, '--check').code, 1);
});

test('a quick audit, one with fewer than three seeds, another version, missing markers: refused', async (t) => {
  const { root, record } = await project(t);
  const audit = await example();
  await record('audit-a.json', { ...audit, settings: { ...audit.settings, quick: true } });
  await record('audit-b.json', { ...audit, settings: { ...audit.settings, seeds: [1, 2] } });
  await record('audit-c.json', { ...audit, version: 2 });
  const { code, err } = protection(root);
  assert.equal(code, 1);
  assert.match(err, /audit-a\.json:1: .*three seeds|audit-a\.json:1: .*3 seeds/);
  assert.match(err, /audit-b\.json:1: .*3 seeds/);
  assert.match(err, /audit-c\.json:1: not an audit of version 1/);
  await writeFile(join(root, 'README.md'), '# A\n');
  assert.match(protection(root).err, /README\.md:1: the markers/);
});
