// Fills the teacher cache: authorise → segments on the accelerator → top-k in the locked vocabulary → release.
// Zone: edge. DESIGN section 8; only positions whose next token is a target are released and charged.
import { createTeacherRows, sliceTeacherRows, type TeacherRows } from '../cache/rows.js';
import type { TeacherCache } from '../cache/teacher-cache.js';
import { countTargets, type Example, teacherPositions } from '../data/example.js';
import type { Accelerator } from './accelerator.js';
import type { Gate } from './gate.js';
import { askRows, forward, type Rows, releaseRows } from './pass.js';

export interface CaptureOptions {
  readonly k: number;
  readonly temperature: number;
  /** Tokens per forward pass, padding included. */
  readonly batchTokens: number;
  readonly signal?: AbortSignal;
  onProgress?(progress: { rows: number; totalRows: number; tokens: number; tokensPerSecond: number }): void;
}

export interface CaptureOutcome {
  /** Rows released now; those found in the cache are not among them. */
  readonly rows: number;
  /** Tokens run through the teacher. */
  readonly tokens: number;
  readonly seconds: number;
  readonly interrupted: boolean;
}

/**
 * Captures what the cache lacks, batch by batch; every batch is durable before the next, so nothing charged is captured twice.
 * The accelerator is opened only when something is missing. Batches are planned over whole shards whatever is kept of them: a resumed capture gives the same bytes as an unbroken one.
 */
export async function captureTeacher(
  openAccelerator: () => Promise<Accelerator>,
  gate: Gate,
  examples: readonly Example[],
  cache: TeacherCache,
  options: CaptureOptions,
): Promise<CaptureOutcome> {
  const started = performance.now();
  cache.verify();
  const missing = cache.missingShards();
  const totalRows = missingRows(examples, cache);
  let rows = 0;
  let tokens = 0;
  const accelerator = missing.length === 0 ? null : await openAccelerator();
  const seconds = (): number => (performance.now() - started) / 1000;
  for (const shard of missing) {
    const [start, end] = cache.examplesOf(shard);
    const members = examples.slice(start, end);
    const kept = cache.kept(shard);
    const wanted = planBatches(members, options.batchTokens).filter(
      (batch) => !batch.every((i) => kept.has(start + i)),
    );
    const supplied = unlessAborted(wanted, options.signal);
    for await (const { batch, results } of captureBatches(accelerator!, gate, members, supplied, options)) {
      cache.keep(
        shard,
        batch.map((i) => start + i),
        results,
      );
      rows += results.reduce((sum, result) => sum + result.rows, 0);
      tokens += batch.reduce((sum, i) => sum + members[i]!.inputIds.length, 0);
      options.onProgress?.({ rows, totalRows, tokens, tokensPerSecond: tokens / seconds() });
    }
    if (cache.kept(shard).size < members.length) return { rows, tokens, seconds: seconds(), interrupted: true };
    await cache.finishShard(shard);
  }
  return { rows, tokens, seconds: seconds(), interrupted: false };
}

/** Positions that a capture would release and charge: those of examples that the cache does not hold. */
export function missingRows(examples: readonly Example[], cache: TeacherCache): number {
  return cache.missingShards().reduce((sum, shard) => {
    const [start, end] = cache.examplesOf(shard);
    const kept = cache.kept(shard);
    return examples
      .slice(start, end)
      .reduce((n, example, i) => n + (kept.has(start + i) ? 0 : countTargets(example)), sum);
  }, 0);
}

/** Groups examples of similar length so that a batch, padded to its longest, stays within `batchTokens`. Indices into `examples`. */
export function planBatches(examples: readonly Example[], batchTokens: number): number[][] {
  const byLength = examples.map((_, i) => i).sort((a, b) => lengthOf(examples, b) - lengthOf(examples, a) || a - b);
  const batches: number[][] = [];
  let current: number[] = [];
  for (const i of byLength) {
    const longest = lengthOf(examples, current[0] ?? i);
    if (current.length > 0 && longest * (current.length + 1) > batchTokens) {
      batches.push(current);
      current = [];
    }
    current.push(i);
  }
  if (current.length > 0) batches.push(current);
  return batches;
}

function lengthOf(examples: readonly Example[], index: number): number {
  return examples[index]!.inputIds.length;
}

// Batches until the signal fires; what is under way is still finished and kept.
function* unlessAborted(batches: readonly number[][], signal: AbortSignal | undefined): Generator<number[]> {
  for (const batch of batches) {
    if (signal?.aborted) return;
    yield batch;
  }
}

/** A batch (indices into the examples) and the released rows of each of its examples. */
export interface CapturedBatch {
  readonly batch: readonly number[];
  readonly results: readonly TeacherRows[];
}

/**
 * Runs batches through accelerator and gate, in order. The enclave releases one batch while the accelerator computes the next.
 * What was released is given out even when the batch after it fails.
 */
export async function* captureBatches(
  accelerator: Accelerator,
  gate: Gate,
  examples: readonly Example[],
  batches: Iterable<readonly number[]>,
  { k, temperature }: Pick<CaptureOptions, 'k' | 'temperature'>,
): AsyncGenerator<CapturedBatch> {
  let releasing: Promise<CapturedBatch> | null = null;
  for (const batch of batches) {
    const members = batch.map((i) => examples[i]!);
    let top: Rows;
    try {
      top = await topOfTargets(accelerator, gate, members, k, temperature);
    } catch (error) {
      if (releasing) yield await releasing;
      throw error;
    }
    if (releasing) yield await releasing;
    releasing = releaseTo(gate, top, members).then((results) => ({ batch, results }));
    // Reported where it is awaited; until then it is no unhandled rejection.
    releasing.catch(() => undefined);
  }
  if (releasing) yield await releasing;
}

// One forward pass: the top-k at every position whose next token is a target, example by example.
async function topOfTargets(
  accelerator: Accelerator,
  gate: Gate,
  examples: readonly Example[],
  k: number,
  temperature: number,
): Promise<Rows> {
  const lengths = examples.map((example) => example.inputIds.length);
  const layout = { batch: examples.length, tokens: Math.max(...lengths), lengths };
  const ids = new Int32Array(lengths.reduce((a, b) => a + b, 0));
  lengths.reduce((at, length, i) => {
    ids.set(examples[i]!.inputIds, at);
    return at + length;
  }, 0);
  const passed = await forward(accelerator, gate, ids, layout);
  const positions = examples.flatMap((example, i) =>
    [...teacherPositions(example)].map((position) => i * layout.tokens + position),
  );
  return askRows(accelerator, passed, Int32Array.from(positions), k, temperature);
}

// Releases the rows of a batch and divides them among its examples.
async function releaseTo(gate: Gate, rows: Rows, examples: readonly Example[]): Promise<TeacherRows[]> {
  const { tokenIds, logprobs } = await releaseRows(gate, rows);
  const all = createTeacherRows(rows.from === 'enclave' ? rows.k : rows.topK.k, tokenIds, logprobs);
  let at = 0;
  return examples.map((example) => {
    const part = sliceTeacherRows(all, at, at + countTargets(example));
    at += part.rows;
    return part;
  });
}
