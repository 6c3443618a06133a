// How close the teacher's forward pass comes to plain matrix products: SmolLM2-135M shape, 4×256 tokens, top-64 at every position.
// sgemm_share = time of its own matrix products alone / time of the pass, both through the same runtime, taking turns.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Accelerator, headRows } from '../src/edge/teacher/accelerator.js';
import { segmentsIn } from '../src/edge/teacher/unlocked-model.js';
import { readSegmentWeight, writeSegments } from '../src/model/segment-weights.js';
import { buildSegments } from '../src/model/segments.js';
import type { BenchOptions } from './bench.js';
import type { BenchResult } from './schema.js';
import { forwardProducts } from './workload/products.js';
import { randomTensors, smolLm2, someIds } from './workload/shapes.js';
import { measureShare } from './workload/share.js';

const rows = 4;
const columns = 256;

export async function run(options: BenchOptions): Promise<readonly BenchResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  try {
    options.log('writing a model of SmolLM2-135M shape …');
    const tensors = randomTensors(smolLm2);
    await writeSegments(folder, buildSegments(smolLm2), (weight) => readSegmentWeight(tensors, weight));
    const accelerator = await Accelerator.open(segmentsIn(folder, 2), smolLm2);
    const batch = {
      ids: someIds(rows * columns, smolLm2.vocabSize),
      batch: rows,
      tokens: columns,
      lengths: Array<number>(rows).fill(columns),
    };
    const forward = async (): Promise<void> => {
      await accelerator.topK(await accelerator.run(0, batch.ids, batch), rows * columns, 64, 1);
    };
    const products = forwardProducts(smolLm2, { rows, columns }, headRows);
    const results = await measureShare(
      products,
      forward,
      { tokens: rows * columns, bar: 0.8, warmup: 1, spin: false },
      options,
    );
    await accelerator.close();
    return results;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
