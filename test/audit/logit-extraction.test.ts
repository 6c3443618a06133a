import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { extract, logitExtraction } from '../../src/audit/attacks/logit-extraction.js';
import { shareOfHead } from '../../src/audit/row-space.js';
import { auditTarget, lessonsFrom } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('all log-probabilities give width and head away, the top 32 give neither', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control } = await openStoriesLab(t, folder, 8, 2);
  const { hiddenSize: width, vocabSize } = lab.config;
  const gain = control.weights.get('model.norm.weight')!;
  const head = control.weights.get('lm_head.weight')!.map((w, i) => w * gain[i % width]!);
  const leakAt = async (topK: number) =>
    extract(await lessonsFrom({ ...control, topK }, lab, 600, 1), vocabSize, width);
  const whole = await leakAt(vocabSize);
  assert.equal(whole.rank, width);
  assert.ok(shareOfHead(whole, head, width) > 0.99, `${shareOfHead(whole, head, width)}`);
  const few = await leakAt(32);
  assert.ok(few.rank < width / 2, `${few.rank}`);
  assert.ok(shareOfHead(few, head, width) < 0.3, `${shareOfHead(few, head, width)}`);
  assert.match(logitExtraction.idleReason({ ...control, topK: 32 }) ?? '', /65 unknowns/);
  assert.equal(logitExtraction.idleReason({ ...control, topK: vocabSize }), null);
  const settings = { attacks: [logitExtraction], budgets: [600], seeds: [1], steps: 2, learningRate: 5e-3 };
  const { findings } = await auditTarget({ ...control, topK: 32 }, control, lab, settings);
  assert.ok(findings[0]!.control.succeeded);
  assert.equal(findings[0]!.control.advantage, 1);
});
