// Several budgets: attacks that record run at each, others at the largest, and whoever reads the report copes with both.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { assembleClone } from '../../src/audit/assemble.js';
import type { Attack } from '../../src/audit/attack.js';
import { joined, record, recordingOf, recordLessons } from '../../src/audit/recorder.js';
import { decisiveRows, reportRows } from '../../src/audit/report-rows.js';
import { auditTarget, stepsFor } from '../../src/audit/run-audit.js';
import type { Target } from '../../src/audit/target.js';
import { openStoriesLab, topK } from './stories-lab.js';

/** Puts what it can read together; `seen` collects the budgets at which it attacked a locked bundle. */
function reader(name: string, curve: boolean, seen: number[]): Attack {
  return {
    name,
    adversary: 'recorder',
    ...(curve ? { curve } : {}),
    summary: 'reads',
    sources: [],
    idleReason: () => null,
    run: async (target, { budgetTokens, lessons }) => {
      if (target.scheme !== 'none') seen.push(budgetTokens);
      const { releasedRows, bytes } = await recordingOf(target, lessons);
      return { clone: assembleClone(target, new Map()), recordedTokens: releasedRows, queries: 1, bytes };
    },
  };
}

test('only attacks of a curve run below the largest budget; their rows and the others stand side by side', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 12, 2);
  const [often, once]: [number[], number[]] = [[], []];
  const attacks = [reader('often', true, often), reader('once', false, once)];
  const progress: [number, number][] = [];
  const { findings, lines } = await auditTarget(await locked('rotation', 'shielded:2'), control, lab, {
    attacks,
    budgets: [100, 200, 400],
    seeds: [1, 2],
    steps: 1,
    learningRate: 1e-3,
    onTrial: ({ done, total }) => progress.push([done, total]),
  });
  assert.deepEqual(often, [100, 200, 400, 100, 200, 400]);
  assert.deepEqual(once, [400, 400]);
  assert.deepEqual(progress.at(-1), [7, 8]);
  assert.equal(lines.length, 6);
  // Five texts and more take more than one step of four.
  assert.ok(lines.find(({ budgetTokens }) => budgetTokens === 400)!.steps > 1);
  const rows = reportRows(findings);
  assert.equal(rows.filter(({ attack }) => attack === 'often').length, 9);
  assert.equal(rows.filter(({ attack }) => attack === 'once').length, 3);
  assert.deepEqual(
    decisiveRows(rows).map(({ attack, budgetTokens }) => [attack, budgetTokens]),
    [
      ['often', 400],
      ['once', 400],
    ],
  );
  // The control is the model without a lock: read as it is, it is the model.
  for (const { control: against } of findings) assert.ok(against.succeeded && against.advantage > 0.99);
});

test('black-box students train for the steps asked for, or for one pass over their texts, up to a limit', () => {
  assert.equal(stepsFor(300, 57), 300);
  assert.equal(stepsFor(2, 57), 15);
  assert.equal(stepsFor(300, 14_000), 3500);
  assert.equal(stepsFor(300, 1_000_000), 4000);
  assert.equal(stepsFor(5000, 1_000_000), 5000);
});

test('the recorder keeps what passes at the borders of the enclave, once for all attacks', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 3, 1);
  const width = lab.config.hiddenSize;
  const kept = async (target: Target): Promise<unknown> => {
    const { traces } = await recordingOf(target, await recordLessons(target, lab.texts.slice(0, 2)));
    const { crossings, headInput, released } = traces[0]!;
    const inside = headInput === null ? null : headInput.length / width === released.rows;
    return [[...crossings].map(([i, hidden]) => [i, hidden.length / width === lab.texts[0]!.inputIds.length]), inside];
  };
  assert.deepEqual(await kept(control), [[], null]);
  assert.deepEqual(await kept(await locked('rotation', 'accelerator')), [[], null]);
  const middle = [
    [1, true],
    [2, true],
  ];
  assert.deepEqual(await kept(await locked('rotation', 'shielded:2')), [middle, null]);
  const target = await locked('rotation', 'shielded:embedding,0,head');
  assert.deepEqual(await kept(target), [[[1, true]], true]);
  const lessons = await recordLessons(target, lab.texts.slice(0, 2));
  const recording = await recordingOf(target, lessons);
  assert.equal(await recordingOf(target, lessons), recording);
  assert.equal(recording.traces[1]!.released, lessons.released![1]);
  assert.ok(recording.vocabulary.every((id) => id === -1));
  // Without a lock every id stands for itself, where it was seen.
  const [first, second] = [lab.texts.slice(0, 1), lab.texts.slice(1, 2)];
  const plain = await recordingOf(control, await recordLessons(control, first));
  const more = await record(control.runner, await control.session(), second, { k: topK, temperature: 1 });
  const both = joined(plain, more);
  assert.ok(both.vocabulary.every((id, token) => id === -1 || id === token));
  for (const id of [...first[0]!.inputIds, ...second[0]!.inputIds]) assert.equal(both.vocabulary[id], id);
  assert.equal(both.releasedRows, plain.releasedRows + more.releasedRows);
  assert.ok(both.bytes > plain.bytes && both.traces.length === 2);
});
