// The recorder: uses a teacher as a licensed user does and keeps everything that passes outside the enclave. Zone: owner (as attacker).
// DESIGN section 2. What is inside never shows up here: these are the arguments and results of accelerator and enclave calls.
import { createTeacherRows, type TeacherRows } from '../edge/cache/rows.js';
import { type Example, teacherPositions } from '../edge/data/example.js';
import type { TopK } from '../edge/teacher/accelerator.js';
import type { Gate, Passed } from '../edge/teacher/gate.js';
import { askRows, forward, type Runner, releaseRows } from '../edge/teacher/pass.js';

/** Everything seen while one text passed. */
export interface Trace {
  readonly example: Example;
  /** Teacher rows at the example's positions, as released. */
  readonly released: TeacherRows;
  /** What `authorise` answered; null where the embedding lies inside. */
  readonly lockedIds: Int32Array | null;
  /** Hidden states [tokens, width] between segment i − 1 and segment i by i; missing where the enclave kept them. */
  readonly crossings: ReadonlyMap<number, Float32Array>;
  /** What went into the head, [rows, width]; null where the enclave kept it. */
  readonly headInput: Float32Array | null;
  /** The head's answers in locked ids; null where the head lies inside. */
  readonly lockedTopK: TopK | null;
}

export interface Recording {
  readonly traces: readonly Trace[];
  /** Rows released, that is charged. */
  readonly releasedRows: number;
  /** Bytes of everything kept. */
  readonly bytes: number;
}

export interface RecordOptions {
  readonly k: number;
  readonly temperature: number;
}

/** Passes every example once, one by one. Throws the enclave's PolicyError when the budget does not cover it. */
export async function record(
  runner: Runner,
  gate: Gate,
  examples: readonly Example[],
  { k, temperature }: RecordOptions,
): Promise<Recording> {
  const traces: Trace[] = [];
  for (const example of examples) traces.push(await trace(runner, gate, example, k, temperature));
  const releasedRows = traces.reduce((sum, { released }) => sum + released.rows, 0);
  return { traces, releasedRows, bytes: traces.reduce((sum, each) => sum + bytesOf(each), 0) };
}

/**
 * The same without asking for a row, so nothing is charged: what a chooser gets out of enclave-held parts for nothing. The traces hold no
 * released rows.
 */
export async function recordUnreleased(
  runner: Runner,
  gate: Gate,
  examples: readonly Example[],
  k: number,
): Promise<Recording> {
  const traces: Trace[] = [];
  for (const example of examples) {
    const { lockedIds, crossings } = await pass(runner, gate, example);
    const released = createTeacherRows(k, new Int32Array(0), new Float32Array(0));
    traces.push({ example, released, lockedIds, crossings, headInput: new Float32Array(0), lockedTopK: null });
  }
  return { traces, releasedRows: 0, bytes: traces.reduce((sum, each) => sum + bytesOf(each), 0) };
}

/** One text through everything but the head, heard from outside. */
async function pass(
  runner: Runner,
  gate: Gate,
  { inputIds }: Example,
): Promise<Pick<Trace, 'lockedIds' | 'crossings'> & { readonly passed: Passed }> {
  const crossings = new Map<number, Float32Array>();
  let lockedIds: Int32Array | null = null;
  const keep = (segment: number, hidden: unknown): void => {
    if (hidden instanceof Float32Array) crossings.set(segment, hidden);
  };
  const heard: Gate = {
    ...gate,
    authorise: async (ids) => {
      lockedIds = await gate.authorise(ids);
      return lockedIds;
    },
    embed: async (ids, layout) => {
      const passed = await gate.embed(ids, layout);
      keep(1, passed);
      return passed;
    },
    block: async (segment, hidden, layout) => {
      const passed = await gate.block(segment, hidden, layout);
      keep(segment + 1, passed);
      return passed;
    },
  };
  const listening: Runner = {
    config: runner.config,
    places: runner.places,
    run: async (segment, input, layout) => {
      const hidden = await runner.run(segment, input, layout);
      keep(segment + 1, hidden);
      return hidden;
    },
    topK: (...request) => runner.topK(...request),
  };
  const layout = { batch: 1, tokens: inputIds.length, lengths: [inputIds.length] };
  const passed = await forward(listening, heard, inputIds, layout);
  return { lockedIds, crossings, passed };
}

async function trace(runner: Runner, gate: Gate, example: Example, k: number, temperature: number): Promise<Trace> {
  const { lockedIds, crossings, passed } = await pass(runner, gate, example);
  const rows = await askRows(runner, passed, teacherPositions(example), k, temperature);
  const lockedTopK: TopK | null = rows.from === 'accelerator' ? rows.topK : null;
  const { tokenIds, logprobs } = await releaseRows(gate, rows);
  const released = createTeacherRows(k, tokenIds, logprobs);
  const headInput =
    passed instanceof Float32Array ? rowsOf(passed, teacherPositions(example), runner.config.hiddenSize) : null;
  return { example, released, lockedIds, crossings, headInput, lockedTopK };
}

function rowsOf(hidden: Float32Array, positions: Int32Array, width: number): Float32Array {
  const rows = new Float32Array(positions.length * width);
  positions.forEach((position, i) => {
    rows.set(hidden.subarray(position * width, (position + 1) * width), i * width);
  });
  return rows;
}

function bytesOf({ released, lockedIds, crossings, headInput, lockedTopK }: Trace): number {
  const arrays = [released.tokenIds, released.logprobs, lockedIds, headInput, lockedTopK?.ids, lockedTopK?.logprobs];
  return [...arrays, ...crossings.values()].reduce((sum, array) => sum + (array?.byteLength ?? 0), 0);
}
