// Everything in the enclave, int8, 1.04 G weights 2048 wide, through 512 MB. See workload/enclave-pass.ts.
// A quarter of the other bench's batch, because a pass of 16,384 tokens takes minutes: harder on the enclave, which streams all weights per batch.
import type { RunBench } from './bench.js';
import { measureEnclave } from './workload/enclave-pass.js';
import { wide } from './workload/shapes.js';

export const run: RunBench = ({ runs, log }) =>
  measureEnclave({ name: 'wide', config: wide, sequences: 16, teeMemoryMb: 512, groupSequences: 2 }, runs, log);
