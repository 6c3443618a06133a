// What the `enclave` placement's graphs cost, run bare: int8 blocks and head tiles with streamed weights against the float32 Accelerator
// with constant, prepacked ones; same tokens, top-64 at every position. SmolLM2-135M shape and a 2048 wide one, random weights; KL to the
// float32 original for the real SmolLM2-135M-Instruct. CPU time beside seconds: it hardly notices what else runs on the machine.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Accelerator } from '../src/edge/teacher/accelerator.js';
import { segmentsIn } from '../src/edge/teacher/unlocked-model.js';
import type { DecoderConfig } from '../src/model/config.js';
import { readSegmentWeight, writeSegments } from '../src/model/segment-weights.js';
import { buildSegments } from '../src/model/segments.js';
import type { BenchOptions } from './bench.js';
import { interleave, summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { int8Divergence } from './workload/divergence.js';
import { randomTensors, smolLm2, someIds, wide } from './workload/shapes.js';
import { findSmolLm2 } from './workload/smollm2.js';
import { StreamedModel } from './workload/streamed-model.js';

const tokens = 256;
const topK = 64;
const heldOut = fileURLToPath(new URL('../../assets/text/valid.txt', import.meta.url));

interface Workload {
  readonly name: string;
  readonly config: DecoderConfig;
  /** Sequences of 256 tokens in one run. */
  readonly batch: number;
  /** Sequences that pass a block together: what fits beside residual and weights into 128 and 512 MB. */
  readonly groupSequences: number;
}

const workloads: readonly Workload[] = [
  { name: 'smollm2', config: smolLm2, batch: 64, groupSequences: 4 },
  // A run of 64 sequences takes minutes; a group's time does not depend on how many follow it.
  { name: 'wide', config: wide, batch: 8, groupSequences: 2 },
];
/** As the other benches run it: 4×256. */
const bareSequences = 4;
const headRows = 512;
const tileColumns = 2048;

export async function run({ runs, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const results: BenchResult[] = [];
  for (const workload of workloads) results.push(...(await measure(workload, runs, log)));
  log('KL on held-out text …');
  const divergences = await int8Divergence(findSmolLm2(), heldOut, 6);
  return [...results, summarise(divergences, { metric: 'kl.smollm2', unit: 'nats', better: 'lower', bar: 0.01 })];
}

async function measure({ name, config, batch, groupSequences }: Workload, runs: number, log: (line: string) => void) {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  try {
    log(`${name}: writing the float32 model and quantising …`);
    const tensors = randomTensors(config);
    const weightOf = (weight: Parameters<typeof readSegmentWeight>[1]) => readSegmentWeight(tensors, weight);
    await writeSegments(folder, buildSegments(config), weightOf);
    const plain = await Accelerator.open(segmentsIn(folder, 2), config);
    const table = await tensors.read('model.embed_tokens.weight');
    const options = { format: 'int8', groupSequences, headRows, tileColumns } as const;
    const streamed = await StreamedModel.open(config, table, weightOf, options);
    const ids = someIds(batch * tokens, config.vocabSize);
    const cpu: { streamed: number[]; plain: number[] } = { streamed: [], plain: [] };
    const timed = (side: keyof typeof cpu, pass: () => Promise<void>) => async () => {
      const before = process.cpuUsage();
      await pass();
      const { user, system } = process.cpuUsage(before);
      cpu[side].push((user + system) / 1e6);
      log(`${name}, ${side}: ${cpu[side].at(-1)!.toFixed(1)} CPU seconds`);
    };
    const bare = async (sequences: number): Promise<void> => {
      for (let first = 0; first < sequences; first += bareSequences) {
        const part = ids.subarray(first * tokens, (first + bareSequences) * tokens);
        const lengths = Array<number>(bareSequences).fill(tokens);
        const hidden = await plain.run(0, part, { batch: bareSequences, tokens, lengths });
        await plain.topK(hidden, bareSequences * tokens, topK, 1);
      }
    };
    const pass = async (sequences: number): Promise<void> => {
      await streamed.run(ids.subarray(0, sequences * tokens), sequences, tokens, topK);
    };
    // One group is enough to warm up.
    await Promise.all([pass(groupSequences), bare(bareSequences)]);
    const times = await interleave(
      timed('streamed', () => pass(batch)),
      timed('plain', () => bare(batch)),
      { runs, warmup: 0 },
    );
    await Promise.all([plain.close(), streamed.close()]);
    const rate = (seconds: readonly number[]): number[] => seconds.map((s) => (batch * tokens) / s);
    const cpuRatios = cpu.streamed.slice(-runs).map((s, i) => s / cpu.plain.slice(-runs)[i]!);
    return [
      summarise(times.ratios, { metric: `ratio.${name}`, unit: 'ratio', better: 'lower', bar: 1 }),
      summarise(cpuRatios, { metric: `cpu_ratio.${name}`, unit: 'ratio', better: 'lower' }),
      summarise(rate(times.a), { metric: `tokens_per_s.${name}.int8`, unit: 'tokens/s', better: 'higher' }),
      summarise(rate(times.b), { metric: `tokens_per_s.${name}.float32`, unit: 'tokens/s', better: 'higher' }),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
