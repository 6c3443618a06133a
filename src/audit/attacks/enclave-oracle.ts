// The enclave as an oracle: enclave-held blocks are asked about hidden states of the attacker's making, near those of real texts, and a
// surrogate learns from the answers. No gradient comes through an enclave, so differences between neighbouring states stand in for it.
// Only a clone that runs without the enclave counts: one that still calls it is the licensed teacher, and ends with the licence.
import { RandomStream } from '../../edge/data/random.js';
import type { Gate } from '../../edge/teacher/gate.js';
import { spansOf } from '../../model/spans.js';
import { heldBetween } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { record, type Trace } from '../recorder.js';
import type { Target } from '../target.js';
import { learningParts, learnParts } from './learning-parts.js';
import { recording, solve } from './recording.js';

export const enclaveOracle: Attack = {
  name: 'enclave-oracle',
  adversary: 'chooser',
  summary:
    'ask enclave-held blocks about hidden states near the recorded ones, free of charge, and train a surrogate on the answers',
  sources: [
    'Papernot et al., Practical Black-Box Attacks, arXiv 1602.02697 (substitutes trained on an oracle)',
    'arXiv 2404.11121',
  ],
  idleReason: (target) =>
    recording.idleReason(target) ??
    (heldBetween(target).length > 0 ? null : 'no enclave-held part takes hidden states and gives them back'),
  run,
};

/** Length of the step away from a recorded state, as a share of the states' root mean square. */
const STEP = 0.3;

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  const spans = spansOf(target.plan).filter(({ index }) =>
    heldBetween(target).some(({ segment }) => segment === index),
  );
  if (spans.length === 0) return learningParts.run(target, settings);
  const { examples } = settings.lessons;
  const gate = await target.session();
  const seen = await record(target.runner, gate, examples, { k: target.topK, temperature: 1 });
  // Tokens through a part never exceed tokens let in, so the texts go in again.
  const asking = await target.session();
  const solved = solve(target, seen);
  const asked = new Map<number, Float32Array[]>();
  const random = new RandomStream('audit/oracle', settings.seed);
  for (const trace of seen.traces) await letIn(target, asking, trace);
  for (const { index } of spans) {
    const pairs = [];
    for (const { crossings } of seen.traces)
      pairs.push(await neighbours(asking, index, crossings.get(index)!, target, random));
    asked.set(
      index,
      pairs.map(({ entry }) => solved.toClone(entry, index)),
    );
    asked.set(
      index + 1,
      pairs.map(({ exit }) => solved.toClone(exit, index + 1)),
    );
  }
  function crossing(i: number): Float32Array[] | null {
    const recorded = solved.crossing(i);
    return recorded === null ? null : [...recorded, ...(asked.get(i) ?? recorded)];
  }
  const clone = await learnParts(target, settings, { ...solved, crossing }, [...examples, ...examples]);
  const bytes = [...asked.values()].flat().reduce((sum, { byteLength }) => sum + byteLength, seen.bytes);
  return { clone, recordedTokens: seen.releasedRows, queries: 2 * examples.length, bytes };
}

async function letIn({ plan }: Target, gate: Gate, { example: { inputIds } }: Trace): Promise<void> {
  if (plan.embedding === 'accelerator') await gate.authorise(inputIds);
  else await gate.embed(inputIds, layoutOf(inputIds.length));
}

/** Every state of a text moved a step in a random direction, and what the enclave makes of them. */
async function neighbours(
  gate: Gate,
  segment: number,
  states: Float32Array,
  { config }: Target,
  random: RandomStream,
): Promise<{ readonly entry: Float32Array; readonly exit: Float32Array }> {
  const step = STEP * Math.sqrt(states.reduce((sum, x) => sum + x * x, 0) / states.length);
  const entry = states.map((x) => x + step * random.normal());
  const exit = await gate.block(segment, entry, layoutOf(states.length / config.hiddenSize));
  if (!(exit instanceof Float32Array)) throw new RangeError(`segment ${segment} keeps its answers inside`);
  return { entry, exit };
}

function layoutOf(tokens: number): Parameters<Gate['block']>[2] {
  return { batch: 1, tokens, lengths: [tokens], past: null };
}
