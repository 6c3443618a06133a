// The bundle used without its enclave: plain token ids go in as they are, answers are taken as token ids. Zone: owner (as attacker).
// Two ways: the locked weights as a model, and a student distilled from what the locked model answers to guessed ids. Whichever fits the
// attacker's own text better is the clone. A lock that renames no tokens falls here at once.
import { openGate } from '../../edge/teacher/gate.js';
import { assembleClone } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { textLoss } from '../fit-student.js';
import { blackBoxStudent } from '../lab.js';
import { record } from '../recorder.js';
import type { Target } from '../target.js';

export const directUse: Attack = {
  name: 'direct-use',
  adversary: 'unlicensed',
  summary: 'run the bundle without its enclave, and distil a student from its answers to guessed ids',
  sources: ['DistilLock, arXiv 2510.16716 (unauthorised distillation)'],
  idleReason: ({ plan }) =>
    [plan.embedding, ...plan.blocks, plan.head].includes('enclave')
      ? 'parts of the model lie inside the enclave, which refuses: nothing answers'
      : null,
  run,
};

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  const { examples } = settings.lessons;
  const seen = await record(target.runner, openGate, examples, { k: target.topK, temperature: 1 });
  const lessons = { examples, released: seen.traces.map(({ released }) => released) };
  const used = assembleClone(target, new Map());
  const distilled = await blackBoxStudent(target.config, lessons, settings);
  const clone = (await textLoss(used, examples)) < (await textLoss(distilled, examples)) ? used : distilled;
  return { clone, recordedTokens: 0, queries: examples.length, bytes: seen.bytes };
}
