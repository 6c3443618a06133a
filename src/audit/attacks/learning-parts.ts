// Learning what the enclave holds: spans fitted by gradient descent to recorded pairs at their borders, starting from what algebra gives,
// then everything together on the released answers. Zone: owner (as attacker). The strongest recorder here.
import type { Example } from '../../edge/data/example.js';
import type { Student } from '../../edge/train/student.js';
import { spansOf } from '../../model/spans.js';
import { hasOpenParts } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { fitSpan, randomiseBlocks } from '../fit-span.js';
import { fitStudent } from '../fit-student.js';
import { recordingOf } from '../recorder.js';
import type { Target } from '../target.js';
import { recording, type Solved, solve } from './recording.js';

export const learningParts: Attack = {
  name: 'learning-parts',
  adversary: 'recorder',
  curve: true,
  summary: 'fit enclave-held parts to recorded crossings, then fine-tune the whole clone on released answers',
  sources: ['TransLinkGuard, arXiv 2404.11121', 'CoreGuard, arXiv 2410.13903'],
  idleReason: recording.idleReason,
  run,
};

/** Joint fine-tuning moves weights that are nearly right. */
const JOINT_RATE = 0.1;

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  // Where nothing lies outside, learning is what the black-box student does.
  if (!hasOpenParts(target)) return recording.run(target, settings);
  const { examples } = settings.lessons;
  const seen = await recordingOf(target, settings.lessons);
  const clone = await learnParts(target, settings, solve(target, seen), examples);
  return { clone, recordedTokens: seen.releasedRows, queries: examples.length, bytes: seen.bytes };
}

/** Fits what algebra left open to the crossings of `examples`, then everything to the released answers of the lessons. */
export async function learnParts(
  target: Target,
  { steps, learningRate, seed, lessons }: AttackSettings,
  { clone, crossing }: Solved,
  examples: readonly Example[],
): Promise<Student> {
  for (const span of spansOf(target.plan)) {
    if (span.place !== 'enclave' || span.head || span.first === span.end) continue;
    randomiseBlocks(clone, span.first, span.end, seed);
    // A span whose output is never seen (the last one, before a head inside) is left to the joint training.
    const exit = crossing(span.index + 1);
    if (exit === null) continue;
    const entry = span.embedding ? null : crossing(span.index);
    await fitSpan(clone, span, { examples, entry, exit }, { steps, learningRate, seed });
  }
  await fitStudent(clone, lessons, { steps, learningRate: JOINT_RATE * learningRate, seed });
  return clone;
}
