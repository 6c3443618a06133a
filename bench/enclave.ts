// Everything in the enclave, int8, at SmolLM2-135M's shape: 16,384 tokens past weights that stream through 128 MB. See workload/enclave-pass.ts.
import type { RunBench } from './bench.js';
import { measureEnclave } from './workload/enclave-pass.js';
import { smolLm2 } from './workload/shapes.js';

export const run: RunBench = ({ runs, log }) =>
  measureEnclave({ name: 'smollm2', config: smolLm2, sequences: 64, teeMemoryMb: 128, groupSequences: 4 }, runs, log);
