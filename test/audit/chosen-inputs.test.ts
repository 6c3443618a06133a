import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { chosenInputs } from '../../src/audit/attacks/chosen-inputs.js';
import { fitHead } from '../../src/audit/fit-head.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { createTeacherRows } from '../../src/edge/cache/rows.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { openStoriesLab } from './stories-lab.js';

test('a head is found from the top rows of random directions, up to one vector common to all tokens', () => {
  const [vocabulary, width, k, rows] = [40, 6, 5, 400];
  const random = new RandomStream('test', 3);
  const truth = Float32Array.from({ length: vocabulary * width }, () => random.normal());
  // On a sphere, so that every token is the first somewhere.
  for (let at = 0; at < truth.length; at += width) {
    const norm = Math.hypot(...truth.subarray(at, at + width));
    for (let c = 0; c < width; c += 1) truth[at + c]! *= 3 / norm;
  }
  const headInput = Float32Array.from({ length: rows * width }, () => random.normal());
  const ids = new Int32Array(rows * k);
  const logprobs = new Float32Array(rows * k);
  for (let row = 0; row < rows; row += 1) {
    const h = headInput.subarray(row * width, (row + 1) * width);
    const logits = Array.from({ length: vocabulary }, (_, v) =>
      h.reduce((sum, x, c) => sum + x * truth[v * width + c]!, 0),
    );
    const z = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    const best = logits.map((_, v) => v).sort((a, b) => logits[b]! - logits[a]!);
    for (let i = 0; i < k; i += 1) {
      ids[row * k + i] = best[i]!;
      logprobs[row * k + i] = logits[best[i]!]! - z;
    }
  }
  const released = createTeacherRows(k, ids, logprobs);
  const found = fitHead(new Float32Array(truth.length), width, [{ headInput, released }], { iterations: 600 });
  for (let c = 0; c < width; c += 1) {
    const common = found[c]! - truth[c]!;
    for (let v = 0; v < vocabulary; v += 1) {
      const error = found[v * width + c]! - truth[v * width + c]! - common;
      assert.ok(Math.abs(error) < 1e-2, `token ${v}, column ${c}: off by ${error}`);
    }
  }
});

test('a vocabulary sweep gives an enclave-held embedding away, exactly and free of charge', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 10, 4);
  const settings = { attacks: [chosenInputs], budgets: [400], seeds: [1], steps: 8, learningRate: 1e-3 };
  const { findings } = await auditTarget(await locked('rotation', 'shielded:embedding'), control, lab, settings);
  const [{ advantage, control: against, verdict, trials }] = findings as [(typeof findings)[0]];
  t.diagnostic(`advantage ${advantage.mean.toFixed(3)}, control ${against.advantage.toFixed(3)}`);
  assert.ok(against.advantage > 0.9);
  assert.equal(verdict, 'broken');
  assert.ok(advantage.mean > 0.9);
  assert.ok(trials[0]!.recordedTokens <= 400);
});
