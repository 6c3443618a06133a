// The recorder: uses a teacher as a licensed user does and keeps what passes outside the enclave. Zone: owner (as attacker). DESIGN
// section 2. What is inside never shows up here: these are the arguments and results of accelerator and enclave calls. Of hidden states
// only those at the enclave's borders are kept: between two parts outside, the bundle's weights say how one comes of the other.
import { createTeacherRows, type TeacherRows } from '../edge/cache/rows.js';
import { type Example, teacherPositions } from '../edge/data/example.js';
import type { Gate, Passed } from '../edge/teacher/gate.js';
import { askRows, forward, type Runner, releaseRows } from '../edge/teacher/pass.js';
import type { Lessons } from './fit-student.js';
import type { Target } from './target.js';

/** Kept while one text passed. */
export interface Trace {
  readonly example: Example;
  /** Teacher rows at the example's positions, as released. */
  readonly released: TeacherRows;
  /** Hidden states [tokens, width] between segment i − 1 and segment i by i, one of them inside; missing where the enclave kept them. */
  readonly crossings: ReadonlyMap<number, Float32Array>;
  /** What went into an enclave-held head, [rows, width]; null where the enclave kept it, or the head lies outside. */
  readonly headInput: Float32Array | null;
}

export interface Recording {
  readonly traces: readonly Trace[];
  /** Locked id of every token id, −1 where it was never seen. All −1 where neither embedding nor head shows locked ids. */
  readonly vocabulary: Int32Array;
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
  const vocabulary = new Int32Array(runner.config.vocabSize).fill(-1);
  const traces: Trace[] = [];
  for (const example of examples) traces.push(await trace(runner, gate, example, k, temperature, vocabulary));
  return recordingOfTraces(traces, vocabulary);
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
  const vocabulary = new Int32Array(runner.config.vocabSize).fill(-1);
  const traces: Trace[] = [];
  for (const example of examples) {
    const { crossings } = await pass(runner, gate, example, vocabulary);
    const released = createTeacherRows(k, new Int32Array(0), new Float32Array(0));
    traces.push({ example, released, crossings, headInput: new Float32Array(0) });
  }
  return recordingOfTraces(traces, vocabulary);
}

/** Two recordings of one target as one. */
export function joined(a: Recording, b: Recording): Recording {
  const vocabulary = a.vocabulary.map((locked, token) => (locked >= 0 ? locked : b.vocabulary[token]!));
  return recordingOfTraces([...a.traces, ...b.traces], vocabulary);
}

function recordingOfTraces(traces: readonly Trace[], vocabulary: Int32Array): Recording {
  const releasedRows = traces.reduce((sum, { released }) => sum + released.rows, 0);
  const bytes = traces.reduce((sum, each) => sum + bytesOf(each), vocabulary.byteLength);
  return { traces, vocabulary, releasedRows, bytes };
}

const recordings = new WeakMap<Lessons, WeakMap<Target, Promise<Recording>>>();

/** Lessons of a licensed session in which `examples` pass; what it showed besides the released rows is kept for `recordingOf`. */
export async function recordLessons(target: Target, examples: readonly Example[]): Promise<Lessons> {
  const recorded = await recordAt(target, examples);
  const lessons = { examples, released: recorded.traces.map(({ released }) => released) };
  recordings.set(lessons, new WeakMap([[target, Promise.resolve(recorded)]]));
  return lessons;
}

/** What was recorded at `target` while the texts of `lessons` passed: one session for all attacks that record those. */
export function recordingOf(target: Target, lessons: Lessons): Promise<Recording> {
  const known = recordings.get(lessons) ?? new WeakMap<Target, Promise<Recording>>();
  recordings.set(lessons, known);
  const found = known.get(target) ?? recordAt(target, lessons.examples);
  known.set(target, found);
  return found;
}

async function recordAt(target: Target, examples: readonly Example[]): Promise<Recording> {
  return record(target.runner, await target.session(), examples, { k: target.topK, temperature: 1 });
}

/** One text through everything but the head, heard from outside. */
async function pass(
  runner: Runner,
  gate: Gate,
  { inputIds }: Example,
  vocabulary: Int32Array,
): Promise<Pick<Trace, 'crossings'> & { readonly passed: Passed }> {
  const { places } = runner;
  const crossings = new Map<number, Float32Array>();
  const keep = (segment: number, hidden: unknown): void => {
    // What goes into the head is kept where it is asked for rows, which are fewer.
    const goesIn = places[segment] === 'enclave' && segment < places.length - 1;
    if (hidden instanceof Float32Array && (places[segment - 1] === 'enclave' || goesIn)) crossings.set(segment, hidden);
  };
  const heard: Gate = {
    ...gate,
    authorise: async (ids) => {
      const locked = await gate.authorise(ids);
      locked.forEach((id, i) => {
        vocabulary[ids[i]!] = id;
      });
      return locked;
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
  return { crossings, passed };
}

async function trace(
  runner: Runner,
  gate: Gate,
  example: Example,
  k: number,
  temperature: number,
  vocabulary: Int32Array,
): Promise<Trace> {
  const positions = teacherPositions(example);
  const { crossings, passed } = await pass(runner, gate, example, vocabulary);
  const rows = await askRows(runner, passed, positions, k, temperature);
  const { tokenIds, logprobs } = await releaseRows(gate, rows);
  if (rows.from === 'accelerator')
    // Released ids are in the order of the locked ones that were asked for.
    rows.topK.ids.forEach((locked, i) => {
      vocabulary[tokenIds[i]!] = locked;
    });
  const inside = rows.from === 'enclave' && passed instanceof Float32Array;
  const headInput = inside ? rowsOf(passed, positions, runner.config.hiddenSize) : null;
  return { example, released: createTeacherRows(k, tokenIds, logprobs), crossings, headInput };
}

function rowsOf(hidden: Float32Array, positions: Int32Array, width: number): Float32Array {
  const rows = new Float32Array(positions.length * width);
  positions.forEach((position, i) => {
    rows.set(hidden.subarray(position * width, (position + 1) * width), i * width);
  });
  return rows;
}

function bytesOf({ released, crossings, headInput }: Trace): number {
  const arrays = [released.tokenIds, released.logprobs, headInput, ...crossings.values()];
  return arrays.reduce((sum, array) => sum + (array?.byteLength ?? 0), 0);
}
