// Chosen inputs: the chooser asks what tells most. Every token once, texts spliced from those at hand, texts that differ in one token, one
// token again and again and single tokens go through enclave-held parts without a row asked for, which costs nothing; an enclave-held head
// gets random directions instead of what the model would say; then as `learning-parts`. A whole session said again tells nothing new: the
// probe `replayed-session` checks that its answers are the same bit for bit and are charged again.

import { createTeacherRows } from '../../edge/cache/rows.js';
import { countTargets, createExample, type Example } from '../../edge/data/example.js';
import { RandomStream } from '../../edge/data/random.js';
import type { Gate } from '../../edge/teacher/gate.js';
import { hasOpenParts } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { fitHead, type HeadRows } from '../fit-head.js';
import type { Lessons } from '../fit-student.js';
import { joined, record, recordUnreleased } from '../recorder.js';
import type { Target } from '../target.js';
import { learnParts } from './learning-parts.js';
import { recording, solve } from './recording.js';

export const chosenInputs: Attack = {
  name: 'chosen-inputs',
  adversary: 'chooser',
  summary:
    'sweep the vocabulary, spliced, changed, repeating and one-token texts through enclave-held parts free of charge, random directions through the head',
  sources: [
    'Carlini et al., Stealing Part of a Production Language Model, arXiv 2403.06634 (chosen queries to the head)',
    'TransLinkGuard, arXiv 2404.11121',
  ],
  idleReason: recording.idleReason,
  run,
};

/** Tokens passed free of charge, per released row; memory for their crossings sets the limit. */
const FREE_PER_ROW = 4;
const MOST_FREE_TOKENS = 20_000;
/** Of the budget, at most, for chosen rows into an enclave-held head. */
const HEAD_SHARE = 0.5;
const ROWS_PER_CALL = 128;

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  if (!hasOpenParts(target)) return recording.run(target, settings);
  const { budgetTokens, seed } = settings;
  const gate = await target.session();
  const forHead = chosenHeadRows(target, budgetTokens);
  const lessons = forHead > 0 ? within(settings.lessons, budgetTokens - forHead) : settings.lessons;
  const paid = await record(target.runner, gate, lessons.examples, { k: target.topK, temperature: 1 });
  const free = heldInBody(target)
    ? await recordUnreleased(target.runner, gate, unpaidTexts(target, settings, paid.releasedRows), target.topK)
    : await recordUnreleased(target.runner, gate, [], target.topK);
  const seen = joined(paid, free);
  const examples = seen.traces.map(({ example }) => example);
  const solved = solve(target, seen);
  const rows: HeadRows[] = paid.traces.flatMap(({ headInput, released }) =>
    headInput ? [{ headInput, released }] : [],
  );
  const chosen = forHead > 0 ? await askHead(target, gate, forHead, rootMeanSquare(rows), seed) : [];
  if (forHead > 0) {
    const head = solved.clone.parameters.get('lm_head.weight')!;
    const turned = [...chosen, ...rows].map(({ headInput, released }): HeadRows => {
      return { headInput: solved.toClone(headInput, Number.POSITIVE_INFINITY), released };
    });
    head.data.set(fitHead(head.data, target.config.hiddenSize, turned));
  }
  const clone = await learnParts(target, { ...settings, lessons }, solved, examples);
  return {
    clone,
    recordedTokens: paid.releasedRows + forHead,
    queries: examples.length + chosen.length,
    bytes: seen.bytes + chosen.reduce((sum, { headInput }) => sum + headInput.byteLength, 0),
  };
}

/** Rows worth choosing where the head lies inside and the accelerator hands it its rows: enough to determine it, or none. */
function chosenHeadRows({ plan, runner, config, topK }: Target, budgetTokens: number): number {
  if (plan.head !== 'enclave' || runner.places.at(-2) !== 'accelerator') return 0;
  const unknowns = config.vocabSize * config.hiddenSize;
  const rows = Math.min(Math.floor(HEAD_SHARE * budgetTokens), Math.ceil((3 * unknowns) / topK));
  return rows * (topK - 1) >= 1.5 * unknowns ? rows : 0;
}

function heldInBody({ plan }: Target): boolean {
  return plan.embedding === 'enclave' || plan.blocks.includes('enclave');
}

/** As many lessons, in their order, as `rows` pay for. */
function within({ examples, released }: Lessons, rows: number): Lessons {
  let left = rows;
  const count = examples.findIndex((example, i) => {
    left -= countTargets(example);
    return left < 0 && i > 0;
  });
  const end = count < 0 ? examples.length : count;
  return { examples: examples.slice(0, end), released: released?.slice(0, end) ?? null };
}

/** Every token once in random order, then texts of all kinds in turn until enough tokens have gone through. */
function unpaidTexts({ config }: Target, { seed, lessons }: AttackSettings, paidRows: number): Example[] {
  const random = new RandomStream('audit/chosen', seed);
  const { examples } = lessons;
  const length = Math.max(...examples.map(({ inputIds }) => inputIds.length));
  const texts: Int32Array[] = [];
  const sweep = random.shuffle(Int32Array.from({ length: config.vocabSize }, (_, id) => id));
  for (let at = 0; at < sweep.length; at += length) texts.push(sweep.slice(at, at + length));
  const known = (): Int32Array => examples[random.below(examples.length)]!.inputIds;
  const kinds = [
    () => spliced(known(), known(), random).slice(0, length),
    () => changed(known(), config.vocabSize, random),
    () => spliced(known(), known(), random).slice(0, length),
    () => new Int32Array(length).fill(random.below(config.vocabSize)),
    () => Int32Array.of(random.below(config.vocabSize)),
  ];
  let left = Math.min(FREE_PER_ROW * paidRows, MOST_FREE_TOKENS);
  for (let i = 0; left > 0; i += 1) {
    const ids = kinds[i % kinds.length]!();
    texts.push(ids);
    left -= ids.length;
  }
  return texts.map((ids) => createExample(ids, new Uint8Array(ids.length)));
}

/** The front of one text with the back of another. */
function spliced(front: Int32Array, back: Int32Array, random: RandomStream): Int32Array {
  const cut = random.below(front.length);
  return Int32Array.from([...front.subarray(0, cut), ...back.subarray(random.below(back.length))]);
}

/** A text that has gone through, but for one token: what changes behind it comes from that token alone. */
function changed(text: Int32Array, vocabSize: number, random: RandomStream): Int32Array {
  const ids = text.slice();
  ids[random.below(ids.length)] = random.below(vocabSize);
  return ids;
}

/** Random directions of the usual length into the head: every token comes out on top of some, also those that no text names. */
async function askHead(
  { config, plan, topK }: Target,
  gate: Gate,
  rows: number,
  norm: number,
  seed: number,
): Promise<HeadRows[]> {
  const random = new RandomStream('audit/directions', seed);
  const asked: HeadRows[] = [];
  for (let left = rows; left > 0; ) {
    const count = Math.min(left, ROWS_PER_CALL);
    // Rows are released against tokens let in.
    const ids = new Int32Array(count);
    if (plan.embedding === 'enclave') await gate.embed(ids, { batch: 1, tokens: count, lengths: [count], past: null });
    else await gate.authorise(ids);
    const headInput = Float32Array.from({ length: count * config.hiddenSize }, () => norm * random.normal());
    const { tokenIds, logprobs } = await gate.head(headInput, topK);
    asked.push({ headInput, released: createTeacherRows(topK, tokenIds, logprobs) });
    left -= count;
  }
  return asked;
}

function rootMeanSquare(rows: readonly HeadRows[]): number {
  let sum = 0;
  let count = 0;
  for (const { headInput } of rows) {
    for (const x of headInput) sum += x * x;
    count += headInput.length;
  }
  return Math.sqrt(sum / Math.max(1, count));
}
