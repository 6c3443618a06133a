import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { assembleClone } from '../../src/audit/assemble.js';
import { fineTuning } from '../../src/audit/attacks/fine-tuning.js';
import { fitStudent } from '../../src/audit/fit-student.js';
import { rowSpace } from '../../src/audit/row-space.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('fine-tuning starts from what is readable: everything in the control, little behind a lock, nothing from the enclave', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 40, 6);
  const attacks = [
    fineTuning({ parts: 'all', percent: 100, licensed: false }),
    fineTuning({ parts: 'lora', percent: 100, licensed: false }),
    fineTuning({ parts: 'vocabulary', percent: 10, licensed: false }),
    fineTuning({ parts: 'all', percent: 100, licensed: true }),
  ];
  const settings = { attacks, budgets: [1500], seeds: [1], steps: 30, learningRate: 5e-3 };
  const { findings } = await auditTarget(await locked('rotation', 'accelerator'), control, lab, settings);
  for (const { attack, advantage, control: own, trials } of findings) {
    assert.ok(own.succeeded, `${attack}: control ${own.advantage}`);
    // A few steps do not find the vocabulary: the lock delays, and the curve over steps says for how long.
    assert.ok(advantage.mean < own.advantage, `${attack}: ${advantage.mean}`);
    assert.equal(trials[0]!.recordedTokens > 0, attack.includes('licensed'));
  }
  const inside = await locked('rotation', 'enclave');
  assert.match(attacks[0]!.idleReason(inside) ?? '', /no weights/);
});

test('adapters move every matrix, and what an adapter cannot find is trained in full', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control } = await openStoriesLab(t, folder, 12, 2);
  const student = assembleClone(control, new Map());
  const before = new Map([...student.parameters].map(([name, { data }]) => [name, data.slice()]));
  const lora = {
    r: 2,
    lora_alpha: 4,
    target_modules: ['q_proj', 'down_proj'],
    modules_to_save: ['lm_head', 'layers.1'],
  };
  const lessons = { examples: lab.texts, released: null };
  await fitStudent(student, lessons, { steps: 3, learningRate: 1e-2, seed: 1, lora });
  for (const [name, { data }] of student.parameters) {
    const trained = /q_proj|down_proj|lm_head|layers\.1\./.test(name);
    assert.equal(
      data.some((x, i) => x !== before.get(name)![i]),
      trained,
      name,
    );
  }
  // Of low rank: rows of what was added to q_proj are combinations of two.
  const name = 'model.layers.0.self_attn.q_proj.weight';
  const width = control.config.hiddenSize;
  const added = student.parameters.get(name)!.data.map((x, i) => x - before.get(name)![i]!);
  const rows = Array.from({ length: 8 }, (_, i) => Float64Array.from(added.subarray(i * width, (i + 1) * width)));
  const { singularValues } = rowSpace(rows);
  assert.ok(singularValues[2]! < 1e-3 * singularValues[0]!, `${singularValues}`);
});
