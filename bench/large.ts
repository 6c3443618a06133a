// A model whose weights exceed 2 GiB in one segment (a protobuf could not hold them): loading, one pass, memory.
// TinyLlama's width with 13 of its 22 blocks, random weights; external data is memory-mapped.
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Accelerator } from '../src/edge/teacher/accelerator.js';
import { segmentsIn } from '../src/edge/teacher/unlocked-model.js';
import type { DecoderConfig } from '../src/model/config.js';
import { readSegmentWeight, writeSegments } from '../src/model/segment-weights.js';
import { buildSegments } from '../src/model/segments.js';
import type { BenchOptions } from './bench.js';
import { summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { randomTensors, smolLm2, someIds } from './workload/shapes.js';

const config: DecoderConfig = {
  ...smolLm2,
  vocabSize: 32_000,
  hiddenSize: 2048,
  intermediateSize: 5632,
  numHiddenLayers: 13,
  numAttentionHeads: 32,
  numKeyValueHeads: 4,
  maxPositionEmbeddings: 2048,
  tieWordEmbeddings: false,
};
const tokens = 128;

export async function run({ runs, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  try {
    log('writing a model with more than 2 GiB in its first segment …');
    const tensors = randomTensors(config);
    await writeSegments(folder, buildSegments(config), (weight) => readSegmentWeight(tensors, weight));
    const { size } = await stat(join(folder, '00.data'));
    const loads: number[] = [];
    const rates: number[] = [];
    for (let i = 0; i < runs; i += 1) {
      const started = performance.now();
      const accelerator = await Accelerator.open(segmentsIn(folder, 2), config);
      loads.push((performance.now() - started) / 1000);
      const ids = someIds(tokens, config.vocabSize);
      const pass = async (): Promise<void> => {
        const hidden = await accelerator.run(0, ids, { batch: 1, tokens, lengths: [tokens] });
        const { logprobs } = await accelerator.topK(hidden, tokens, 64, 1);
        if (!logprobs.every(Number.isFinite)) throw new RangeError('log-probabilities are not finite');
      };
      await pass();
      const timed = performance.now();
      await pass();
      rates.push(tokens / ((performance.now() - timed) / 1000));
      await accelerator.close();
      log(`loaded in ${loads.at(-1)!.toFixed(1)} s, ${rates.at(-1)!.toFixed(0)} tokens/s`);
    }
    return [
      summarise([size / 2 ** 30], { metric: 'segment_gib', unit: 'GiB', better: 'higher', bar: 2 }),
      summarise(loads, { metric: 'load_seconds', unit: 's', better: 'lower' }),
      summarise(rates, { metric: 'tokens_per_s', unit: 'tokens/s', better: 'higher' }),
      summarise([process.resourceUsage().maxRSS / 1024], { metric: 'peak_rss_mb', unit: 'MB', better: 'lower' }),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
