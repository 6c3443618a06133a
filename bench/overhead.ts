// What lock, placement, enclave process and release cost: every scheme and placement against the bare unlocked graph in the same run.
// SmolLM2-135M shape, random weights; prefill of 4×256 tokens with top-64 released at every position, and decoding token by token.
// The simulated enclave runs at native speed; published TEE costs come on top: 4 to 8 % for a confidential VM (arXiv 2509.18886).
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openGate } from '../src/edge/teacher/gate.js';
import type { LinearFormat } from '../src/model/linear-lowering.js';
import { acceleratorPlan, shieldedPlan, uniformPlan } from '../src/model/spans.js';
import type { LockOptions } from '../src/owner/lock-checkpoint.js';
import type { BenchOptions } from './bench.js';
import { interleave, summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { decode, openBare, openPlaced, prefill, someExamples } from './workload/placed-teacher.js';
import { smolLm2, someIds } from './workload/shapes.js';

const blocks = smolLm2.numHiddenLayers;
const [rows, columns, repeats] = [4, 256, 3];
const [promptTokens, steps] = [32, 32];

interface Variant {
  readonly name: string;
  readonly options: Pick<LockOptions, 'scheme' | 'plan' | 'precision' | 'quantize'>;
  /** What it is measured against. */
  readonly bare: LinearFormat;
  readonly bars: { readonly prefill: number | null; readonly decode: number | null };
}

const onAccelerator = { prefill: 1.03, decode: 1.1 };
const asItIs = { prefill: null, decode: null };
const outside = acceleratorPlan(blocks);
const inside = uniformPlan(blocks, 'enclave');
const two = ['embedding', '0', String(blocks - 1), 'head'];
const four = ['embedding', '0', '9', '19', String(blocks - 1), 'head'];

const variants: readonly Variant[] = [
  { name: 'permutation', options: { scheme: 'permutation', plan: outside }, bare: 'float32', bars: onAccelerator },
  { name: 'rotation', options: { plan: outside }, bare: 'float32', bars: onAccelerator },
  {
    name: 'permutation.int4',
    options: { scheme: 'permutation', plan: outside, quantize: 'int4' },
    bare: 'block4',
    bars: onAccelerator,
  },
  { name: 'rotation.int4', options: { plan: outside, quantize: 'int4' }, bare: 'block4', bars: onAccelerator },
  { name: 'shielded_2', options: { plan: shieldedPlan(blocks, two) }, bare: 'float32', bars: asItIs },
  { name: 'shielded_4', options: { plan: shieldedPlan(blocks, four) }, bare: 'float32', bars: asItIs },
  { name: 'enclave', options: { plan: inside }, bare: 'float32', bars: asItIs },
  { name: 'enclave.int8', options: { plan: inside, precision: 'int8' }, bare: 'float32', bars: asItIs },
];

export async function run({ runs, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  const results: BenchResult[] = [];
  try {
    for (const variant of variants) results.push(...(await measure(variant, folder, { runs, log })));
    const main = results.find(({ metric }) => metric === 'ratio.rotation.prefill')!;
    return [{ ...main, metric: 'ratio' }, ...results];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  { name, options, bare: format, bars }: Variant,
  folder: string,
  { runs, log }: BenchOptions,
): Promise<BenchResult[]> {
  log(`${name}: locking …`);
  const placed = await openPlaced(join(folder, name), smolLm2, options, { log });
  // Loaded right after the other and anew each time: both find the machine's memory in the same state.
  const bareFolder = join(folder, 'bare');
  const bare = await openBare(bareFolder, smolLm2, format);
  try {
    const examples = someExamples(rows, columns, smolLm2.vocabSize);
    const batch = await interleave(prefill(placed, examples, repeats), prefill(bare, examples, repeats), { runs });
    const prompt = someIds(promptTokens, smolLm2.vocabSize);
    // One token at a time is bound by reading the weights, and where their pages lie decides a third of it: what only passes the enclave's
    // gate is measured against the same session without it. Its graph is the bare one's, its weights differ in value only.
    const outsideOnly = placed.accelerator.places.every((place) => place === 'accelerator');
    const reference = outsideOnly ? { accelerator: placed.accelerator, gate: openGate } : bare;
    const text = await interleave(decode(placed, prompt, steps), decode(reference, prompt, steps), { runs });
    const rate = (seconds: readonly number[], tokens: number): number[] => seconds.map((s) => tokens / s);
    const tokens = repeats * rows * columns;
    const ratio = { unit: 'ratio', better: 'lower' } as const;
    const speed = { unit: 'tokens/s', better: 'higher' } as const;
    return [
      summarise(batch.ratios, { metric: `ratio.${name}.prefill`, ...ratio, bar: bars.prefill }),
      summarise(text.ratios, { metric: `ratio.${name}.decode`, ...ratio, bar: bars.decode }),
      summarise(rate(batch.a, tokens), { metric: `tokens_per_s.${name}.prefill`, ...speed }),
      summarise(rate(text.a, steps), { metric: `tokens_per_s.${name}.decode`, ...speed }),
    ];
  } finally {
    await bare.accelerator.close();
    await rm(bareFolder, { recursive: true, force: true });
    await placed.close();
  }
}
