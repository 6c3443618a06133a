// The student's training step as one graph: forward, loss, backward, clipping and optimiser.
// Zone: edge. DESIGN section 9.

import { gradients } from '../../graph/gradient.js';
import { Graph, type Value } from '../../graph/graph.js';
import { add } from '../../graph/ops/elementwise.js';
import { distillationLoss, type LossInputs, type LossOptions } from '../../graph/ops/loss.js';
import { expectedTensors } from '../../model/checkpoint/expected-tensors.js';
import type { DecoderConfig } from '../../model/config.js';
import { decoderBody } from '../../model/decoder.js';
import { adapterTensors, type LoraConfig, trainsWithLora } from '../../model/lora.js';
import { type BatchShape, TrainingLayers } from '../../model/training-layers.js';
import { type AdamWOptions, emitAdamW, stepScalars } from './adamw.js';

export interface StepGraphOptions extends BatchShape {
  readonly loss: LossOptions;
  /** Teacher entries per row; 0 trains on the text alone. */
  readonly topK: number;
  readonly optimiser: AdamWOptions;
  /** Which parameters are trained; all when absent. The others are inputs that stay as they are. */
  readonly trainable?: (name: string) => boolean;
  /** Low-rank adapters, which are then what is trained, with `modules_to_save`. The student holds their tensors (adapters.ts). */
  readonly lora?: LoraConfig;
}

/** Which parameters these options train. */
export function trainedBy({
  trainable,
  lora,
}: Pick<StepGraphOptions, 'trainable' | 'lora'>): (name: string) => boolean {
  return trainable ?? ((name) => lora === undefined || trainsWithLora(name, lora));
}

interface ForwardPass {
  readonly graph: Graph;
  readonly layers: TrainingLayers;
  readonly parameters: { readonly name: string; readonly value: Value; readonly gradient: Value }[];
}

/** Declares what a loss compares with: labels, row weights and `topK` teacher entries for each of `rows` rows (0: no teacher). */
export function declareTargets(
  graph: Graph,
  rows: number,
  topK: number,
): Pick<LossInputs, 'labels' | 'rowWeight' | 'teacher'> {
  return {
    labels: graph.input('labels', 'int32', [rows, 1]),
    rowWeight: graph.input('row_weight', 'float32', [rows, 1]),
    teacher:
      topK === 0
        ? null
        : {
            ids: graph.input('teacher_ids', 'int32', [rows, topK]),
            logprobs: graph.input('teacher_logprobs', 'float32', [rows, topK]),
            tail: graph.input('teacher_tail', 'float32', [rows, 1]),
          },
  };
}

// Forward, loss and gradients; outputs `kd` and `ce`.
function forwardAndBackward(config: DecoderConfig, options: StepGraphOptions): ForwardPass {
  const trainable = trainedBy(options);
  const graph = new Graph();
  const layers = new TrainingLayers(graph, config, options, trainable, options.lora ?? null);
  const hidden = decoderBody(layers, config);
  const weight = layers.headWeight();
  const targets = declareTargets(graph, options.batch * options.tokens, options.topK);
  const loss = distillationLoss(graph, { hidden, weight, ...targets }, options.loss, !trainable(weight.name));
  graph.output('kd', loss.kd);
  graph.output('ce', loss.ce);
  const seeds = [
    ...(loss.dWeight === null ? [] : [{ value: weight, gradient: loss.dWeight }]),
    { value: hidden, gradient: loss.dHidden },
  ];
  const named = [...layers.parameters].filter(([name]) => trainable(name));
  const grads = gradients(
    graph,
    seeds,
    named.map(([, value]) => value),
  );
  return { graph, layers, parameters: named.map(([name, value], i) => ({ name, value, gradient: grads[i]! })) };
}

/** One graph for a whole optimiser step (gradient_accumulation_steps = 1). Outputs kd, ce, grad_norm and the updates. */
export function fusedStepGraph(config: DecoderConfig, options: StepGraphOptions): Graph {
  const { graph, parameters } = forwardAndBackward(config, options);
  const scalars = stepScalars(graph);
  graph.output('grad_norm', emitAdamW(graph, parameters, scalars, options.optimiser));
  return graph;
}

/** A micro-batch: adds its gradients to the inputs `g:NAME`, outputs `next_g:NAME`, kd and ce. */
export function accumulateGraph(config: DecoderConfig, options: StepGraphOptions): Graph {
  const { graph, parameters } = forwardAndBackward(config, options);
  for (const { name, value, gradient } of parameters) {
    const before = graph.input(`g:${name}`, 'float32', value.shape);
    graph.output(`next_g:${name}`, add(graph, before, gradient));
  }
  return graph;
}

/** The optimiser alone: gradients `g:NAME` in, updates and grad_norm out. */
export function applyGraph(config: DecoderConfig, options: StepGraphOptions): Graph {
  const graph = new Graph();
  const adapters = options.lora === undefined ? [] : adapterTensors(config, options.lora);
  const trainable = trainedBy(options);
  const trained = [...expectedTensors(config), ...adapters].filter(({ name }) => trainable(name));
  const parameters = trained.map(({ name, shape }) => ({
    name,
    value: graph.input(name, 'float32', shape),
    gradient: graph.input(`g:${name}`, 'float32', shape),
  }));
  const scalars = stepScalars(graph);
  graph.output('grad_norm', emitAdamW(graph, parameters, scalars, options.optimiser));
  return graph;
}
