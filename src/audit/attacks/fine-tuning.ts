// Fine-tuning from the locked weights: a copied bundle as the start of a training run on the attacker's own text, on all of it or little.
// Zone: owner (as attacker). The copier has text alone; a licensed user also has the released rows, and need not record anything.
// What the enclave holds starts from random. The better one of start and end, by text kept back, is the clone. With adapters (LoRA) what
// an adapter cannot find, tables in another order and random blocks, is trained in full beside them.
import { RandomStream } from '../../edge/data/random.js';
import type { Student } from '../../edge/train/student.js';
import { expectedTensors } from '../../model/checkpoint/expected-tensors.js';
import type { LoraConfig } from '../../model/lora.js';
import { assembleClone, hasOpenParts, heldBlocks } from '../assemble.js';
import type { Attack, AttackSettings, Attempt } from '../attack.js';
import { randomiseBlocks } from '../fit-span.js';
import { fitStudent, type Lessons, textLoss } from '../fit-student.js';
import { cloneConfig } from '../locked-weights.js';
import type { Target } from '../target.js';

export interface FineTuningOptions {
  /** All parameters, low-rank adapters and whatever starts in another order or from random, or embedding and head only. */
  readonly parts: 'all' | 'lora' | 'vocabulary';
  /** Of the attacker's texts, in percent. */
  readonly percent: 1 | 10 | 100;
  /** Whether the attacker has a licence and learns from released rows. */
  readonly licensed: boolean;
}

const WHAT = {
  all: 'all weights',
  lora: 'adapters on every matrix, and embedding and head,',
  vocabulary: 'embedding and head',
} as const;
const TABLES = ['model.embed_tokens.weight', 'lm_head.weight'];

export function fineTuning(options: FineTuningOptions): Attack {
  const { parts, percent, licensed } = options;
  return {
    name: `fine-tuning-${licensed ? 'licensed-' : ''}${parts}-${percent}`,
    adversary: licensed ? 'recorder' : 'copier',
    summary: `train ${WHAT[parts]} on from the locked weights, ${percent} % of the text${licensed ? ' and its released rows' : ''}`,
    sources: [
      'DistilLock, arXiv 2510.16716 (fine-tuning attack)',
      'TransLinkGuard, arXiv 2404.11121',
      ...(parts === 'lora' ? ['LoRA, arXiv 2106.09685'] : []),
    ],
    idleReason: (target) => (hasOpenParts(target) ? null : 'no weights lie outside the enclave'),
    run: (target, settings) => run(target, settings, options),
  };
}

/** The copier's and, at the end, the licensed user's. */
export const fineTunings: readonly Attack[] = [
  ...([1, 10, 100] as const).flatMap((percent) => [
    fineTuning({ parts: 'all', percent, licensed: false }),
    fineTuning({ parts: 'lora', percent, licensed: false }),
    fineTuning({ parts: 'vocabulary', percent, licensed: false }),
  ]),
  fineTuning({ parts: 'all', percent: 100, licensed: true }),
];

/** Share of the chosen texts kept back to choose by; at least one text, which then serves both uses. */
const KEPT_BACK = 0.1;

async function run(target: Target, settings: AttackSettings, options: FineTuningOptions): Promise<Attempt> {
  const { steps, learningRate, seed } = settings;
  const { parts, licensed } = options;
  const count = Math.ceil((settings.lessons.examples.length * options.percent) / 100);
  const lessons = part(settings.lessons, 0, count, licensed);
  const split = Math.max(1, Math.floor(count * (1 - KEPT_BACK)));
  const learned = part(lessons, 0, split, licensed);
  const judge = part(lessons, Math.min(split, count - 1), count, licensed);
  const start = lockedStart(target, seed);
  const clone: Student = {
    ...start,
    parameters: new Map([...start.parameters].map(([name, { data, shape }]) => [name, { data: data.slice(), shape }])),
  };
  const trained =
    parts === 'vocabulary'
      ? { trainable: (name: string) => TABLES.includes(name) }
      : parts === 'lora'
        ? { lora: adaptersFor(target) }
        : {};
  await fitStudent(clone, learned, { steps, learningRate, seed, ...trained });
  const better = (await textLoss(start, judge.examples)) < (await textLoss(clone, judge.examples)) ? start : clone;
  const recordedTokens = lessons.released?.reduce((sum, { rows }) => sum + rows, 0) ?? 0;
  return { clone: better, recordedTokens, queries: licensed ? count : 0, bytes: 0 };
}

/** Usual ones (QLoRA, arXiv 2305.14314: on every linear layer). */
const RANK = 8;
const ALPHA = 16;

function adaptersFor(target: Target): LoraConfig {
  const gates = target.config.gatedMlp ? ['gate_proj'] : [];
  return {
    r: RANK,
    lora_alpha: ALPHA,
    target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', ...gates, 'up_proj', 'down_proj'],
    modules_to_save: ['embed_tokens', 'lm_head', ...heldBlocks(target).map((block) => `layers.${block}`)],
  };
}

function part({ examples, released }: Lessons, from: number, to: number, licensed: boolean): Lessons {
  return { examples: examples.slice(from, to), released: licensed ? (released?.slice(from, to) ?? null) : null };
}

/** The bundle's weights in place; tables and blocks that the enclave holds at random. */
function lockedStart(target: Target, seed: number): Student {
  const random = new Map<string, Float32Array>();
  for (const { name, shape } of expectedTensors(cloneConfig(target.config))) {
    if (!TABLES.includes(name) || target.weights.has(name)) continue;
    const stream = new RandomStream(`audit/${name}`, seed);
    random.set(
      name,
      Float32Array.from({ length: shape[0]! * shape[1]! }, () => 0.02 * stream.normal()),
    );
  }
  const start = assembleClone(target, random);
  for (const block of heldBlocks(target)) randomiseBlocks(start, block, block + 1, seed);
  return start;
}
