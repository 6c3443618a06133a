// Advice from recorded audits: what holds is recommended where it fits, the least bad where not, always with the numbers it rests on.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type AdviceFacts, advise } from '../../src/audit/advise.js';
import { type AuditSummary, readSummary, type SummaryRow } from '../../src/audit/summary.js';
import { temporaryFolder, tinyConfig } from '../owner/tiny-model.js';

const wide = { ...tinyConfig, hiddenSize: 4096, intermediateSize: 11008, vocabSize: 32000, numHiddenLayers: 8 };
const speeds = { teeGflops: 94, acceleratorGflops: 100, speedSource: 'as given' };
const facts: AdviceFacts = { config: wide, teeMemoryMb: 8192, budgetTokens: 4000, ancestor: true, speeds };

function row(placement: string, worst: number, more: Partial<SummaryRow> = {}): SummaryRow {
  const verdict = worst >= 0.5 ? 'broken' : worst > 0.05 ? 'weakened' : 'held';
  return {
    adversary: 'recorder',
    scheme: 'rotation',
    placement,
    budgetTokens: 4000,
    attack: 'recording',
    advantage: worst,
    half: 0,
    worst,
    verdict,
    idle: placement === 'enclave',
    ...more,
  };
}

function summaryOf(...rows: SummaryRow[]): AuditSummary {
  return { audits: [{ file: 'a.json', model: 'toy', date: '2026-01-01', seeds: 3, rows }] };
}

const usual = [
  row('accelerator', 1),
  row('shielded:embedding,0,head', 0.7),
  row('shielded:embedding,head', 0.8),
  row('enclave', 0),
];

test('what holds is recommended where it fits, with the recorded numbers as reasons', () => {
  const advice = advise(facts, summaryOf(...usual));
  assert.deepEqual(
    [advice.scheme, advice.placement, advice.precision, advice.verdict],
    ['rotation', 'enclave', 'int8', 'held'],
  );
  assert.match(advice.reasons.join('\n'), /no attack had anything to work on but released answers/);
  assert.match(advice.reasons.join('\n'), /not accelerator: broken by recording at 4,000 tokens, advantage 1\.00/);
  assert.match(advice.reasons.join('\n'), /everything inside/);
});

test('where the enclave does not fit, the least bad is named, and that it does not hold', () => {
  const small = advise({ ...facts, teeMemoryMb: 100 }, summaryOf(...usual));
  assert.equal(small.placement, 'shielded:embedding,head');
  assert.equal(small.verdict, 'broken');
  assert.match(small.reasons.join('\n'), /this does not hold: no recorded placement that fits 100 MB/);
  assert.match(small.reasons.join('\n'), /not enclave: needs [\d,]+ MB of trusted memory \(held/);
  assert.equal(advise({ ...facts, teeMemoryMb: 32 }, summaryOf(...usual)).placement, 'accelerator');
});

test('an enclave that did not hold is not praised', () => {
  const advice = advise(facts, summaryOf(...usual, row('enclave', 0.2, { attack: 'oracle', idle: false })));
  assert.deepEqual([advice.placement, advice.verdict], ['enclave', 'weakened']);
  assert.match(advice.reasons.join('\n'), /oracle .*0\.20.*weakened[\s\S]*this does not hold/);
});

test('an ancestor counts only where there is one', () => {
  const matched = row('shielded:embedding,head', 0.9, { adversary: 'ancestor', attack: 'matching' });
  const only = summaryOf(row('shielded:embedding,head', 0.02), matched);
  assert.equal(advise(facts, only).verdict, 'broken');
  assert.equal(advise({ ...facts, ancestor: false }, only).verdict, 'held');
});

test('the budget decides which recorded numbers count', () => {
  const curve = summaryOf(
    row('accelerator', 0.04, { budgetTokens: 100 }),
    row('accelerator', 0.9, { budgetTokens: 10_000 }),
  );
  assert.equal(advise({ ...facts, budgetTokens: 9999 }, curve).verdict, 'held');
  assert.match(advise({ ...facts, budgetTokens: 9999 }, curve).reasons.join(), /expect no less than this/);
  assert.equal(advise({ ...facts, budgetTokens: 10_000 }, curve).verdict, 'broken');
  assert.match(advise({ ...facts, budgetTokens: 10 }, curve).reasons.join(), /smallest recorded budget is 100 tokens/);
});

test('what ran with the largest budget alone counts at every budget', () => {
  const own = [100, 10_000].map((budgetTokens) => row('accelerator', 0.01, { budgetTokens }));
  const copied = row('accelerator', 0.6, { budgetTokens: 10_000, adversary: 'copier', attack: 'fine-tuning-all-100' });
  const advice = advise({ ...facts, budgetTokens: 500 }, summaryOf(...own, copied));
  assert.equal(advice.verdict, 'broken');
  assert.match(advice.reasons.join(), /fine-tuning-all-100 \(copier\)/);
});

test('parts that the model lacks are no candidates; nothing recorded is said', () => {
  const narrow = { ...facts, config: { ...wide, numHiddenLayers: 2 } };
  const advice = advise(narrow, summaryOf(row('shielded:embedding,0,5,head', 0.1), row('accelerator', 1)));
  assert.deepEqual(
    advice.candidates.map(({ placement }) => placement),
    ['accelerator'],
  );
  assert.throws(() => advise(facts, { audits: [] }), { code: 'advise-unrecorded' });
});

test('the summary that comes with the program is read, another format refused', async (t) => {
  const { audits } = await readSummary();
  assert.ok(Array.isArray(audits));
  const file = join(await temporaryFolder(t), 'summary.json');
  await writeFile(file, JSON.stringify({ format: 'distillock-audit-summary', version: 2, audits: [] }));
  await assert.rejects(readSummary(file), { code: 'audit-summary' });
  assert.equal(JSON.parse(await readFile('assets/audit/summary.json', 'utf8')).version, 1);
});
