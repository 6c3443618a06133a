// Held-out measures of a student: KL to the teacher, negative log-likelihood, next-token agreement.
// Zone: edge.
import { Graph } from '../../graph/graph.js';
import { encodeModel } from '../../graph/onnx.js';
import { evaluationLoss } from '../../graph/ops/loss.js';
import { Session } from '../../graph/runtime.js';
import { decoderBody } from '../../model/decoder.js';
import { TrainingLayers } from '../../model/training-layers.js';
import { declareTargets } from './step-graph.js';
import type { Student } from './student.js';
import { FeedBuffers, type TrainingData, targetCount } from './training-data.js';

export interface Evaluation {
  /** Mean KL(teacher‖student) per target token in nats, over top-k and tail, at the cache's temperature; NaN without a teacher. */
  readonly kl: number;
  /** Mean negative log-likelihood per target token in nats. */
  readonly nll: number;
  /** Share of target positions where the student's most likely token is the teacher's; NaN without a teacher. */
  readonly agreement: number;
  readonly targets: number;
}

export class Evaluator {
  readonly #session: Session;
  readonly #data: TrainingData;
  readonly #buffers: FeedBuffers;

  private constructor(session: Session, data: TrainingData, buffers: FeedBuffers) {
    this.#session = session;
    this.#data = data;
    this.#buffers = buffers;
  }

  /** Prepares evaluation of students of this shape on `data`. */
  static async open(
    student: Student,
    data: TrainingData,
    { temperature, chunkRows, threads }: { temperature: number; chunkRows: number; threads?: number },
  ): Promise<Evaluator> {
    const { rows, columns } = data.batches;
    const graph = new Graph();
    const layers = new TrainingLayers(
      graph,
      student.config,
      { batch: rows, tokens: columns },
      () => false,
      student.lora ?? null,
    );
    const hidden = decoderBody(layers, student.config);
    const k = data.teacher?.k ?? 0;
    const inputs = { hidden, weight: layers.headWeight(), ...declareTargets(graph, rows * columns, k) };
    for (const [name, value] of Object.entries(evaluationLoss(graph, inputs, { temperature, chunkRows })))
      graph.output(name, value);
    const session = await Session.open(encodeModel(graph), threads === undefined ? {} : { threads });
    return new Evaluator(session, data, new FeedBuffers(rows, columns, k, student.config.vocabSize));
  }

  /** One pass over all batches of epoch 0. */
  async evaluate(student: Student): Promise<Evaluation> {
    const parameters = Object.fromEntries(student.parameters);
    const sums = { kd: 0, ce: 0, agreement: 0 };
    let targets = 0;
    for (let i = 0; i < this.#data.batches.batchesPerEpoch; i += 1) {
      const batch = this.#data.batches.batchAt(0, i);
      const count = targetCount(this.#data, batch);
      if (count === 0) continue;
      const out = await this.#session.run({ ...parameters, ...this.#buffers.fill(this.#data, batch, 1) });
      for (const key of ['kd', 'ce', 'agreement'] as const) sums[key] += (out[key]!.data as Float32Array)[0]!;
      targets += count;
    }
    const taught = this.#data.teacher !== null;
    return {
      kl: taught ? sums.kd / targets : Number.NaN,
      nll: sums.ce / targets,
      agreement: taught ? sums.agreement / targets : Number.NaN,
      targets,
    };
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}
