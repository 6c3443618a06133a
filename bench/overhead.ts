// What the lock, the enclave process and the release cost: the locked teacher through its enclave against the same unlocked
// graph without one. SmolLM2-135M shape, random weights, 4×256 tokens, top-64 released at every position.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { licenseHere, lockHere, startUnlicensed } from '../src/cli/experiment/on-one-machine.js';
import { createExample } from '../src/edge/data/example.js';
import { Accelerator } from '../src/edge/teacher/accelerator.js';
import { captureBatches } from '../src/edge/teacher/capture.js';
import { type Gate, openGate } from '../src/edge/teacher/gate.js';
import { segmentsIn } from '../src/edge/teacher/unlocked-model.js';
import { readSegmentWeight, writeSegments } from '../src/model/segment-weights.js';
import { buildSegments } from '../src/model/segments.js';
import type { BenchOptions } from './bench.js';
import { interleave, summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { randomTensors, smolLm2, someIds } from './workload/shapes.js';

const rows = 4;
const columns = 256;
/** Captured one after the other, as a job does: the enclave releases one batch while the next is computed. */
const batchesPerRun = 3;
const session = { topK: 64, temperature: 1 };

export async function run({ runs, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  try {
    log('locking a model of SmolLM2-135M shape, and writing it unlocked …');
    const tensors = randomTensors(smolLm2);
    const tokenizer = { 'tokenizer.json': new TextEncoder().encode('{}') };
    const locked = await lockHere({ path: folder, config: smolLm2, tensors, tokenizer }, folder, 'teacher');
    const plainFolder = join(folder, 'plain');
    await writeSegments(plainFolder, buildSegments(smolLm2), (weight) => readSegmentWeight(tensors, weight));
    const plain = await Accelerator.open(segmentsIn(plainFolder, 2), smolLm2);
    const teacher = await startUnlicensed(locked, join(folder, 'state'), log);
    try {
      const now = Math.floor(Date.now() / 1000);
      const terms = {
        budgetTokens: 1e9,
        topK: 64,
        precision: 'float16',
        temperature: { min: 1, max: 1 },
        notBefore: now - 60,
        expires: now + 3600,
      } as const;
      await licenseHere(locked, teacher, terms);
      const gate = await teacher.gate(session);
      const accelerator = await teacher.accelerator();
      const ids = someIds(rows * columns, smolLm2.vocabSize);
      const mask = new Uint8Array(columns).fill(1);
      mask[0] = 0;
      const examples = Array.from({ length: rows }, (_, i) =>
        createExample(ids.slice(i * columns, (i + 1) * columns), mask),
      );
      const options = { k: session.topK, temperature: session.temperature };
      const batches = Array.from({ length: batchesPerRun }, () => examples.map((_, i) => i));
      const pass = (on: Accelerator, through: Gate) => async (): Promise<void> => {
        for await (const _ of captureBatches(on, through, examples, batches, options));
      };
      log(`${runs} interleaved pairs …`);
      const times = await interleave(pass(accelerator, gate), pass(plain, openGate), { runs });
      const rate = (seconds: readonly number[]): number[] => seconds.map((s) => (batchesPerRun * rows * columns) / s);
      return [
        summarise(times.ratios, { metric: 'ratio', unit: 'ratio', better: 'lower', bar: 1.03 }),
        summarise(rate(times.a), { metric: 'tokens_per_s.locked', unit: 'tokens/s', better: 'higher' }),
        summarise(rate(times.b), { metric: 'tokens_per_s.unlocked', unit: 'tokens/s', better: 'higher' }),
      ];
    } finally {
      await teacher.close();
      await plain.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
