// Decoding token by token through the enclave's gate against the same session without it, all on the accelerator; the part of `overhead` that
// needs many short runs. SmolLM2-135M shape, random weights, float32 and int4.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openGate } from '../src/edge/teacher/gate.js';
import { acceleratorPlan } from '../src/model/spans.js';
import type { RunBench } from './bench.js';
import { interleave, summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { decode, openPlaced } from './workload/placed-teacher.js';
import { smolLm2, someIds } from './workload/shapes.js';

const [promptTokens, steps] = [32, 32];
const plan = acceleratorPlan(smolLm2.numHiddenLayers);
const variants = [
  { name: 'rotation', options: { plan } },
  { name: 'rotation.int4', options: { plan, quantize: 'int4' } },
] as const;

export const run: RunBench = async ({ runs, log }) => {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  const results: BenchResult[] = [];
  try {
    for (const { name, options } of variants) {
      log(`${name}: locking …`);
      const placed = await openPlaced(join(folder, name), smolLm2, options, { log });
      const reference = { accelerator: placed.accelerator, gate: openGate };
      const prompt = someIds(promptTokens, smolLm2.vocabSize);
      const text = await interleave(decode(placed, prompt, steps), decode(reference, prompt, steps), { runs });
      await placed.close();
      const milliseconds = text.a.map((seconds, i) => ((seconds - text.b[i]!) / steps) * 1000);
      results.push(
        summarise(text.ratios, { metric: `ratio.${name}`, unit: 'ratio', better: 'lower', bar: 1.1 }),
        summarise(milliseconds, { metric: `gate_ms_per_token.${name}`, unit: 'ms', better: 'lower' }),
      );
    }
    return results;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};
