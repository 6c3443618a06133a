// What the demo measures besides the students: overhead of the locked teacher, peak memory.
// Zone: owner and edge.
import { readFileSync } from 'node:fs';
import type { Example } from '../../edge/data/example.js';
import { countTargets } from '../../edge/data/example.js';
import type { EnclaveProcess } from '../../edge/enclave/launch.js';
import { Accelerator } from '../../edge/teacher/accelerator.js';
import { captureBatches } from '../../edge/teacher/capture.js';
import { type Gate, openGate } from '../../edge/teacher/gate.js';
import type { LockedTeacher } from '../../edge/teacher/locked-teacher.js';
import { segmentsIn } from '../../edge/teacher/unlocked-model.js';
import type { Checkpoint } from '../../model/checkpoint/hf-directory.js';
import { readSegmentWeight, writeSegments } from '../../model/segment-weights.js';
import { buildSegments } from '../../model/segments.js';

const pairs = 6;
const batchExamples = 4;
const batchesPerRun = 4;
/** Positions the overhead measure may release, at most: a warm-up and `pairs` runs of batches of four rows of up to 256 tokens. */
export const overheadRows: number = (pairs + 1) * batchesPerRun * batchExamples * 256;

/** Median over interleaved pairs of (locked teacher through the enclave) / (the same unlocked graph without one), in time. */
export async function measureOverhead(
  checkpoint: Checkpoint,
  folder: string,
  licensed: LockedTeacher,
  examples: readonly Example[],
  session: { readonly topK: number; readonly temperature: number },
): Promise<number> {
  await writeSegments(folder, buildSegments(checkpoint.config), (weight) =>
    readSegmentWeight(checkpoint.tensors, weight),
  );
  const plain = await Accelerator.open(segmentsIn(folder, 2), checkpoint.config);
  try {
    const gate = await licensed.gate(session);
    const locked = await licensed.accelerator();
    const batch = [...examples].sort((a, b) => countTargets(b) - countTargets(a)).slice(0, batchExamples);
    const options = { k: session.topK, temperature: session.temperature };
    const seconds = async (run: () => Promise<unknown>): Promise<number> => {
      const started = performance.now();
      await run();
      return performance.now() - started;
    };
    const order = batch.map((_, i) => i);
    const batches = Array.from({ length: batchesPerRun }, () => order);
    const capture = async (on: Accelerator, through: Gate): Promise<void> => {
      for await (const _ of captureBatches(on, through, batch, batches, options));
    };
    const viaEnclave = (): Promise<void> => capture(locked, gate);
    const bare = (): Promise<void> => capture(plain, openGate);
    const ratios: number[] = [];
    for (let pair = 0; pair <= pairs; pair += 1) {
      // Turns change: neither side always runs second.
      const swapped = pair % 2 === 1;
      const first = await seconds(swapped ? bare : viaEnclave);
      const second = await seconds(swapped ? viaEnclave : bare);
      if (pair > 0) ratios.push(swapped ? second / first : first / second);
    }
    ratios.sort((x, y) => x - y);
    return (ratios[pairs / 2 - 1]! + ratios[pairs / 2]!) / 2;
  } finally {
    await plain.close();
  }
}

/** Peak resident memory in MB of this process and of those it started together (theirs where the system tells it). */
export function peakRssMb(started: readonly (Pick<EnclaveProcess, 'pid'> | null)[]): number {
  const own = process.resourceUsage().maxRSS / 1024;
  return started.reduce((sum, child) => sum + (child ? peakOf(child.pid) : 0), own);
}

function peakOf(pid: number): number {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean);
    const own = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return children.reduce((sum, child) => sum + peakOf(Number(child)), Number(own?.[1] ?? 0) / 1024);
  } catch {
    return 0;
  }
}
