import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { bestAssignment } from '../../src/audit/assignment.js';
import { breakCipher, substitutionCipher } from '../../src/audit/attacks/substitution-cipher.js';
import { record } from '../../src/audit/recorder.js';
import { auditTarget } from '../../src/audit/run-audit.js';
import { openStoriesLab } from './stories-lab.js';

test('the best assignment is the best of all', () => {
  const score = Float64Array.of(3, 5, 1, 4, 9, 2, 6, 8, 7);
  // 3+9+7, 3+2+8, 5+4+7, 5+2+6, 1+4+8, 1+9+6: the first.
  assert.deepEqual([...bestAssignment(score, 3)], [0, 1, 2]);
  assert.deepEqual([...bestAssignment(Float64Array.of(0, 1, 1, 0), 2)], [1, 0]);
});

test('a copier with embedding and head decodes the locked vocabulary', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { lab, control, locked } = await openStoriesLab(t, folder, 100, 10);
  const target = await locked('rotation', 'accelerator');
  for (const [name, against] of [
    ['control', control],
    ['locked', target],
  ] as const) {
    const started = Date.now();
    const key = await breakCipher(against, lab.texts, 1);
    // The truth, as a licensed session shows it.
    const seen = await record(against.runner, await against.session(), lab.texts, { k: 32, temperature: 1 });
    const truth = new Map<number, number>();
    for (const { example, lockedIds } of seen.traces)
      lockedIds!.forEach((id, i) => truth.set(example.inputIds[i]!, id));
    let right = 0;
    for (const [token, id] of truth) if (key[token] === id) right += 1;
    console.log(
      name,
      right,
      truth.size,
      lab.texts.reduce((s, e) => s + e.inputIds.length, 0),
      Date.now() - started,
    );
  }
});
