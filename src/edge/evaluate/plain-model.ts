// A student or baseline under evaluation: its own segments without a lock, and a head that answers about any token. Zone: edge.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Session } from '../../graph/runtime.js';
import { memoryTensors } from '../../model/checkpoint/memory-tensors.js';
import { encodeProbeHead } from '../../model/probe-head.js';
import type { TeacherRows } from '../cache/rows.js';
import { type Example, teacherPositions } from '../data/example.js';
import { type Accelerator, headRows } from '../teacher/accelerator.js';
import { planBatches } from '../teacher/capture.js';
import { openGate } from '../teacher/gate.js';
import { forward } from '../teacher/pass.js';
import { openSegments } from '../teacher/unlocked-model.js';
import type { Student } from '../train/student.js';
import type { Ask, AskAnswer } from './likelihood-plan.js';
import { klOfRow } from './measures/divergence.js';

/** Tokens of a forward pass, padding included. */
const BATCH_TOKENS = 1024;

/** Sums over the target tokens of one example. */
export interface TextSums {
  readonly tokens: number;
  /** −Σ ln q(token). */
  readonly nll: number;
  /** Σ KL(teacher‖student) over top-k and tail at the rows' temperature. */
  readonly kl: number;
  /** Positions where the teacher's most likely token is the student's. */
  readonly agreed: number;
}

export interface PassOptions {
  readonly signal?: AbortSignal;
  /** Examples done. */
  onProgress?(done: number, total: number): void;
}

interface Probed {
  /** [rows, k]. */
  readonly logprobs: Float32Array;
  readonly best: Float32Array;
  readonly rest: Float32Array;
}

export class PlainModel {
  readonly accelerator: Accelerator;
  readonly #probe: Session;
  readonly #closeSegments: () => Promise<void>;

  private constructor(accelerator: Accelerator, probe: Session, closeSegments: () => Promise<void>) {
    this.accelerator = accelerator;
    this.#probe = probe;
    this.#closeSegments = closeSegments;
  }

  /** Needs as much space in the temporary folder as the weights take in float32. Throws UnsupportedError('head-width'). */
  static async open({ config, parameters }: Student, signal?: AbortSignal): Promise<PlainModel> {
    const tensors = memoryTensors([...parameters].map(([name, { data, shape }]) => ({ name, shape, data })));
    const { accelerator, folder, segments, close } = await openSegments(config, tensors, signal);
    try {
      const file = join(folder, 'probe.onnx');
      await writeFile(file, encodeProbeHead(config, segments.at(-1)!, '01.data'));
      return new PlainModel(accelerator, await Session.open(file, { spin: false }), close);
    } catch (error) {
      await close();
      throw error;
    }
  }

  /** Scores of the tokens that are asked about, all exact. */
  async likelihoods(asks: readonly Ask[], options: PassOptions = {}): Promise<AskAnswer[]> {
    const answers: AskAnswer[] = new Array(asks.length);
    const examples = asks.map(({ example }) => example);
    for await (const { index, hidden } of this.#hiddenOf(examples, options)) {
      const { tokens } = asks[index]!;
      const k = Math.max(...tokens.map((row) => row.length));
      // Rows that ask about fewer tokens repeat the first one.
      const ids = tokens.flatMap((row) => Array.from({ length: k }, (_, i) => row[i] ?? row[0]!));
      const { logprobs, best } = await this.#ask(hidden, ids, k, 1);
      answers[index] = tokens.map((row, r) =>
        row.map((_, i) => {
          const logprob = logprobs[r * k + i]!;
          return { logprob, exact: true, best: logprob >= best[r]! };
        }),
      );
    }
    return answers;
  }

  /** Text against the teacher's released rows, which were released at `temperature`. */
  async compare(
    examples: readonly Example[],
    teacherOf: (example: number) => TeacherRows,
    temperature: number,
    options: PassOptions = {},
  ): Promise<TextSums[]> {
    const sums: TextSums[] = new Array(examples.length);
    for await (const { index, hidden } of this.#hiddenOf(examples, options)) {
      const { inputIds } = examples[index]!;
      const labels = [...teacherPositions(examples[index]!)].map((position) => inputIds[position + 1]!);
      const { logprobs } = await this.#ask(hidden, labels, 1, 1);
      const teacher = teacherOf(index);
      const { k, tokenIds } = teacher;
      const probed = await this.#ask(hidden, tokenIds, k, temperature);
      let [nll, kl, agreed] = [0, 0, 0];
      for (let row = 0; row < labels.length; row += 1) {
        const own = probed.logprobs.subarray(row * k, (row + 1) * k);
        nll -= logprobs[row]!;
        kl += klOfRow(teacher, row, { logprobs: own, rest: probed.rest[row]! });
        if (own[0]! >= probed.best[row]!) agreed += 1;
      }
      sums[index] = { tokens: labels.length, nll, kl, agreed };
    }
    return sums;
  }

  async close(): Promise<void> {
    await this.#probe.close();
    await this.#closeSegments();
  }

  // Hidden states [targets, width] at the positions whose next token counts, example by example.
  async *#hiddenOf(
    examples: readonly Example[],
    { signal, onProgress }: PassOptions,
  ): AsyncGenerator<{ index: number; hidden: Float32Array }> {
    const width = this.accelerator.config.hiddenSize;
    let done = 0;
    for (const batch of planBatches(examples, BATCH_TOKENS)) {
      signal?.throwIfAborted();
      const members = batch.map((i) => examples[i]!);
      const lengths = members.map(({ inputIds }) => inputIds.length);
      const layout = { batch: batch.length, tokens: Math.max(...lengths), lengths };
      const ids = Int32Array.from(members.flatMap(({ inputIds }) => [...inputIds]));
      const passed = (await forward(this.accelerator, openGate, ids, layout)) as Float32Array;
      for (const [i, index] of batch.entries()) {
        const positions = teacherPositions(members[i]!);
        const hidden = new Float32Array(positions.length * width);
        positions.forEach((position, row) => {
          const at = (i * layout.tokens + position) * width;
          hidden.set(passed.subarray(at, at + width), row * width);
        });
        yield { index, hidden };
      }
      done += batch.length;
      onProgress?.(done, examples.length);
    }
  }

  async #ask(hidden: Float32Array, ids: ArrayLike<number>, k: number, temperature: number): Promise<Probed> {
    const width = this.accelerator.config.hiddenSize;
    const rows = ids.length / k;
    const probed = { logprobs: new Float32Array(rows * k), best: new Float32Array(rows), rest: new Float32Array(rows) };
    const inverse = { data: Float32Array.of(1 / temperature), shape: [] };
    for (let start = 0; start < rows; start += headRows) {
      const n = Math.min(headRows, rows - start);
      const asked = BigInt64Array.from({ length: n * k }, (_, i) => BigInt(ids[start * k + i]!));
      const out = await this.#probe.run({
        hidden: { data: hidden.subarray(start * width, (start + n) * width), shape: [n, width] },
        inverse_temperature: inverse,
        ids: { data: asked, shape: [n, k] },
      });
      probed.logprobs.set(out['logprobs']!.data as Float32Array, start * k);
      probed.best.set(out['best']!.data as Float32Array, start);
      probed.rest.set(out['rest']!.data as Float32Array, start);
    }
    return probed;
  }
}
