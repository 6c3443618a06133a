// Runs optimiser steps: the sessions of the step graphs, the optimiser's moments, parameters updated in place.
// Zone: edge.
import { encodeModel } from '../../graph/onnx.js';
import { type Feeds, Session, type Tensor } from '../../graph/runtime.js';
import type { Batch } from '../data/batches.js';
import { stepScalarValues } from './adamw.js';
import { accumulateGraph, applyGraph, fusedStepGraph, type StepGraphOptions, trainedBy } from './step-graph.js';
import type { Parameter, Student } from './student.js';
import { FeedBuffers, type TrainingData, targetCount } from './training-data.js';

export interface StepperOptions extends StepGraphOptions {
  readonly adamEpsilon: number;
  readonly threads?: number;
  /** Widths of the batches, where there are several; the widest is `tokens`. Default: `tokens` alone. */
  readonly widths?: readonly number[];
}

/** A graph for batches of one width, and what it is fed from. */
interface Pass {
  readonly session: Session;
  readonly buffers: FeedBuffers;
}

export interface StepResult {
  /** Means over the rows that count: the loss's divergence (0 without a teacher), and cross-entropy. */
  readonly kd: number;
  readonly ce: number;
  /** (1 − kdRatio)·ce + kdRatio·T²·kd. */
  readonly loss: number;
  readonly gradNorm: number;
  /** Tokens that are not padding. */
  readonly tokens: number;
}

export class Stepper {
  /** First and second moments by name of the parameters that are trained; empty buffers at step 0. */
  readonly moments: ReadonlyMap<string, { readonly m: Parameter; readonly v: Parameter }>;
  readonly #student: Student;
  readonly #options: StepperOptions;
  /** By width of the batch: whole steps where #apply is null, else micro-batches. */
  readonly #passes: ReadonlyMap<number, Pass>;
  readonly #apply: Session | null;
  readonly #gradients: ReadonlyMap<string, Parameter>;

  private constructor(
    student: Student,
    options: StepperOptions,
    passes: ReadonlyMap<number, Pass>,
    apply: Session | null,
  ) {
    this.#student = student;
    this.#options = options;
    this.#passes = passes;
    this.#apply = apply;
    const zeros = ({ data, shape }: Parameter): Parameter => ({ data: new Float32Array(data.length), shape });
    const trainable = trainedBy(options);
    const entries = [...student.parameters].filter(([name]) => trainable(name));
    this.moments = new Map(entries.map(([name, p]) => [name, { m: zeros(p), v: zeros(p) }]));
    this.#gradients = new Map(apply === null ? [] : entries.map(([name, p]) => [name, zeros(p)]));
  }

  /** `accumulation` micro-batches make a step; with 1 the whole step is one graph. */
  static async open(student: Student, options: StepperOptions, accumulation: number): Promise<Stepper> {
    const settings = options.threads === undefined ? {} : { threads: options.threads };
    const open = (graph: Parameters<typeof encodeModel>[0]): Promise<Session> =>
      Session.open(encodeModel(graph), settings);
    const { batch, topK } = options;
    const graphOf = accumulation === 1 ? fusedStepGraph : accumulateGraph;
    const passes = new Map<number, Pass>();
    for (const tokens of options.widths ?? [options.tokens]) {
      const loss = { ...options.loss, chunkRows: chunkWithin(batch * tokens, options.loss.chunkRows) };
      const session = await open(graphOf(student.config, { ...options, tokens, loss }));
      passes.set(tokens, { session, buffers: new FeedBuffers(batch, tokens, topK, student.config.vocabSize) });
    }
    const apply = accumulation === 1 ? null : await open(applyGraph(student.config, options));
    return new Stepper(student, options, passes, apply);
  }

  /** Step number `t` ≥ 1 over the given micro-batches. Parameters and moments change in place. */
  async step(t: number, learningRate: number, data: TrainingData, batches: readonly Batch[]): Promise<StepResult> {
    const { beta1, beta2, weightDecay } = this.#options.optimiser;
    const hyper = { beta1, beta2, weightDecay, epsilon: this.#options.adamEpsilon };
    const scalars: Record<string, Tensor> = {};
    for (const [name, value] of Object.entries(stepScalarValues(t, learningRate, hyper)))
      scalars[name] = { data: Float32Array.of(value), shape: [] };
    const rows = batches.reduce((sum, batch) => sum + targetCount(data, batch), 0);
    const tokens = batches.reduce((sum, batch) => sum + batch.tokens, 0);
    const results =
      this.#apply === null
        ? await this.#fusedStep(data, batches[0]!, 1 / Math.max(1, rows), scalars)
        : await this.#accumulated(this.#apply, data, batches, 1 / Math.max(1, rows), scalars);
    const { kdRatio, temperature } = this.#options.loss;
    const loss = (1 - kdRatio) * results.ce + kdRatio * temperature ** 2 * results.kd;
    return { ...results, loss, tokens };
  }

  async close(): Promise<void> {
    for (const { session } of this.#passes.values()) await session.close();
    await this.#apply?.close();
  }

  async #fusedStep(data: TrainingData, batch: Batch, rowWeight: number, scalars: Feeds) {
    const { feeds: trained, into } = this.#state();
    const feeds = { ...Object.fromEntries(this.#student.parameters), ...trained };
    const { session, buffers } = this.#passes.get(batch.columns)!;
    const out = await session.run({ ...feeds, ...scalars, ...buffers.fill(data, batch, rowWeight) }, into);
    return { kd: first(out['kd']!), ce: first(out['ce']!), gradNorm: first(out['grad_norm']!) };
  }

  async #accumulated(apply: Session, data: TrainingData, batches: readonly Batch[], rowWeight: number, scalars: Feeds) {
    const gradients: Record<string, Tensor> = {};
    const next: Record<string, Tensor> = {};
    for (const [name, gradient] of this.#gradients) {
      gradient.data.fill(0);
      gradients[`g:${name}`] = gradient;
      next[`next_g:${name}`] = gradient;
    }
    const parameters = Object.fromEntries(this.#student.parameters);
    let kd = 0;
    let ce = 0;
    for (const batch of batches) {
      const { session, buffers } = this.#passes.get(batch.columns)!;
      const feeds = { ...parameters, ...gradients, ...buffers.fill(data, batch, rowWeight) };
      const out = await session.run(feeds, next);
      kd += first(out['kd']!);
      ce += first(out['ce']!);
    }
    const { feeds, into } = this.#state();
    const out = await apply.run({ ...feeds, ...gradients, ...scalars }, into);
    return { kd, ce, gradNorm: first(out['grad_norm']!) };
  }

  // Parameters and moments as feeds, and the same buffers as the places for their next values.
  #state(): { feeds: Feeds; into: Feeds } {
    const feeds: Record<string, Tensor> = {};
    const into: Record<string, Tensor> = {};
    for (const [name, parameter] of this.#student.parameters) {
      const moments = this.moments.get(name);
      if (moments === undefined) continue;
      const { m, v } = moments;
      feeds[name] = parameter;
      feeds[`m:${name}`] = m;
      feeds[`v:${name}`] = v;
      into[`next:${name}`] = parameter;
      into[`next_m:${name}`] = m;
      into[`next_v:${name}`] = v;
    }
    return { feeds, into };
  }
}

function first(tensor: Tensor): number {
  return (tensor.data as Float32Array)[0]!;
}

/** The largest divisor of `rows` up to `most`: rows of the loss whose logits exist at once. */
function chunkWithin(rows: number, most: number): number {
  let chunk = Math.min(rows, most);
  while (rows % chunk !== 0) chunk -= 1;
  return chunk;
}
