// Everything inside, int8, weights streamed from sealed pieces within --tee-memory: the licensed enclave process against the bare float32
// model and against the same int8 graphs run bare, taking turns. Random weights; top-64 released at every position.
// The simulated enclave runs at native speed; published TEE costs come on top: 4 to 8 % for a confidential VM (arXiv 2509.18886).
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { captureBatches } from '../../src/edge/teacher/capture.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { equaliseNeurons } from '../../src/model/equalise-neurons.js';
import { readSegmentWeight } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import { uniformPlan } from '../../src/model/spans.js';
import type { BenchOptions } from '../bench.js';
import { summarise } from '../interleave.js';
import type { BenchResult } from '../schema.js';
import { openBare, openPlaced, type Placed, prefill, session, someExamples } from './placed-teacher.js';
import { randomTensors, someIds } from './shapes.js';
import { StreamedModel } from './streamed-model.js';

const tokens = 256;

export interface EnclaveWorkload {
  readonly name: string;
  readonly config: DecoderConfig;
  /** Sequences of 256 tokens in the batch. */
  readonly sequences: number;
  readonly teeMemoryMb: number;
  /** Sequences that pass a block together in the bare int8 run: what the enclave's memory allows. */
  readonly groupSequences: number;
}

/** Resident set of the enclave's process, and its peak so far, in MB; 0 where the system does not tell. */
function memoryOf({ locked }: Placed): { now: number; peak: number } {
  const read = (pid: number): { now: number; peak: number } => {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const field = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) / 1024;
    const own = { now: field('VmRSS'), peak: field('VmHWM') };
    // The sandbox is the parent of the process that computes.
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean);
    return children.map((child) => read(Number(child))).reduce((a, b) => (a.peak > b.peak ? a : b), own);
  };
  try {
    return read(locked.process!.pid);
  } catch {
    return { now: 0, peak: 0 };
  }
}

export async function measureEnclave(
  workload: EnclaveWorkload,
  runs: number,
  log: BenchOptions['log'],
): Promise<BenchResult[]> {
  const { name, config, sequences, teeMemoryMb, groupSequences } = workload;
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  try {
    log(`${name}: locking …`);
    const options = { plan: uniformPlan(config.numHiddenLayers, 'enclave'), precision: 'int8' } as const;
    const placed = await openPlaced(join(folder, 'placed'), config, options, { log, teeMemoryMb });
    const bare = await openBare(join(folder, 'bare'), config);
    const tensors = randomTensors(config);
    const weights = buildSegments(config).flatMap((segment) => segment.weights);
    const weightOf = equaliseNeurons(weights, (weight) => readSegmentWeight(tensors, weight));
    const streamed = await StreamedModel.open(config, await tensors.read('model.embed_tokens.weight'), weightOf, {
      format: 'int8',
      groupSequences,
      headRows: 256,
      tileColumns: 2048,
    });
    const examples = someExamples(sequences, tokens, config.vocabSize);
    const ids = someIds(sequences * tokens, config.vocabSize);
    // A first small batch loads the runtime and every graph: what it leaves is the baseline.
    await prefill(placed, examples.slice(0, 1), 1)();
    const baseline = memoryOf(placed).now;
    const small = Array.from({ length: sequences / 4 }, (_, i) => [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3]);
    const sides = {
      enclave: prefill(placed, examples, 1),
      float32: async () => {
        const capture = captureBatches(bare.accelerator, bare.gate, examples, small, {
          k: session.topK,
          temperature: 1,
        });
        for await (const _ of capture);
      },
      int8: async () => void (await streamed.run(ids, sequences, tokens, session.topK)),
    };
    const names = Object.keys(sides) as (keyof typeof sides)[];
    const seconds: Record<keyof typeof sides, number[]> = { enclave: [], float32: [], int8: [] };
    for (let round = 0; round < runs; round++) {
      // Turns change, so that no side always runs after the same other one.
      for (const [i] of names.entries()) {
        const side = names[(i + round) % names.length]!;
        const started = performance.now();
        await sides[side]();
        seconds[side].push((performance.now() - started) / 1000);
        log(`${name}, ${side}: ${((sequences * tokens) / seconds[side].at(-1)!).toFixed(0)} tokens/s`);
      }
    }
    const memory = memoryOf(placed);
    await placed.close();
    await bare.accelerator.close();
    await streamed.close();
    const over = (other: 'float32' | 'int8'): number[] => seconds.enclave.map((s, i) => s / seconds[other][i]!);
    const rate = (side: keyof typeof sides): number[] => seconds[side].map((s) => (sequences * tokens) / s);
    const ratio = { unit: 'ratio', better: 'lower' } as const;
    const speed = { unit: 'tokens/s', better: 'higher' } as const;
    const mb = { unit: 'MB', better: 'lower' } as const;
    return [
      summarise(over('float32'), { metric: `ratio.${name}.over_float32`, ...ratio, bar: 1 }),
      summarise(over('int8'), { metric: `ratio.${name}.over_int8`, ...ratio, bar: 1.08 }),
      summarise(rate('enclave'), { metric: `tokens_per_s.${name}.enclave`, ...speed }),
      summarise(rate('float32'), { metric: `tokens_per_s.${name}.float32`, ...speed }),
      summarise(rate('int8'), { metric: `tokens_per_s.${name}.int8`, ...speed }),
      summarise([memory.peak - baseline], { metric: `peak_mb.${name}.beyond_baseline`, ...mb, bar: teeMemoryMb }),
      summarise([baseline], { metric: `baseline_mb.${name}`, ...mb }),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
