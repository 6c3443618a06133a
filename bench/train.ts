// How close a KD training step comes to plain matrix products: 384 wide, 6 blocks, vocabulary 8192, 4×256 tokens, top-64,
// forward, backward and AdamW. sgemm_share = time of the step's own matrix products alone / time of the step, taking turns.

import { createTeacherRows } from '../src/edge/cache/rows.js';
import type { Batch } from '../src/edge/data/batches.js';
import { createBatches } from '../src/edge/data/batches.js';
import { createExample } from '../src/edge/data/example.js';
import { Stepper } from '../src/edge/train/stepper.js';
import { randomStudent } from '../src/edge/train/student.js';
import type { TrainingData } from '../src/edge/train/training-data.js';
import { divergenceOf } from '../src/graph/ops/divergence.js';
import type { BenchOptions } from './bench.js';
import type { BenchResult } from './schema.js';
import { trainingProducts } from './workload/products.js';
import { smallStudent, someIds } from './workload/shapes.js';
import { measureShare } from './workload/share.js';

const rows = 4;
const columns = 256;
const topK = 64;

/** Rows of text and a teacher that prefers the 64 tokens after each. */
function someData(): { data: TrainingData; batch: Batch } {
  const { vocabSize } = smallStudent;
  const mask = new Uint8Array(columns).fill(1);
  mask[0] = 0;
  const ids = someIds(rows * columns, vocabSize);
  const examples = Array.from({ length: rows }, (_, i) =>
    createExample(ids.slice(i * columns, (i + 1) * columns), mask),
  );
  const batches = createBatches(examples, {
    batchSize: rows,
    maxLength: columns,
    packing: true,
    seed: 1,
    shuffle: false,
    padTokenId: 0,
  });
  const logprobs = new Float32Array((columns - 1) * topK).fill(Math.log(0.9 / topK));
  const readExample = (example: number) =>
    createTeacherRows(
      topK,
      Int32Array.from(
        logprobs,
        (_, i) => (examples[example]!.inputIds[1 + Math.floor(i / topK)]! + (i % topK) * 7) % vocabSize,
      ),
      logprobs,
    );
  const teacher = examples.map((_, i) => readExample(i));
  return {
    data: { examples, batches, teacher: { k: topK, readExample: (i) => teacher[i]! } },
    batch: batches.batchAt(0, 0),
  };
}

export async function run(options: BenchOptions): Promise<readonly BenchResult[]> {
  const { data, batch } = someData();
  const student = randomStudent(smallStudent, 1);
  const stepper = await Stepper.open(
    student,
    {
      batch: rows,
      tokens: columns,
      topK,
      loss: { divergence: divergenceOf('forward_kl'), kdRatio: 1, temperature: 1, chunkRows: rows * columns },
      optimiser: { beta1: 0.9, beta2: 0.95, weightDecay: 0.1, maxGradNorm: 1 },
      adamEpsilon: 1e-8,
    },
    1,
  );
  let t = 0;
  const step = async (): Promise<void> => {
    t += 1;
    await stepper.step(t, 1e-4, data, [batch]);
  };
  const products = trainingProducts(smallStudent, { rows, columns });
  const results = await measureShare(
    products,
    step,
    { tokens: rows * columns, bar: 0.75, warmup: 2, spin: true },
    options,
  );
  await stepper.close();
  return results;
}
