// A whole model small enough for central differences: its shape, options of its step and everything that a step graph is fed. Not a test itself.
import type { StepGraphOptions } from '../../src/edge/train/step-graph.js';
import type { Graph } from '../../src/graph/graph.js';
import { divergenceOf } from '../../src/graph/ops/divergence.js';
import type { Tensor } from '../../src/graph/runtime.js';
import { type DecoderConfig, plainFeatures } from '../../src/model/config.js';
import { lcg } from '../graph/check-gradient.js';

export const config: DecoderConfig = {
  ...plainFeatures,
  modelType: 'qwen2',
  vocabSize: 11,
  hiddenSize: 8,
  intermediateSize: 12,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 4,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  maxPositionEmbeddings: 16,
  slidingWindow: null,
  qkvBias: true,
  outputBias: false,
  mlpBias: false,
  tieWordEmbeddings: true,
  bosTokenId: 1,
  eosTokenIds: [2],
  padTokenId: null,
  initializerRange: 0.02,
};
export const options: StepGraphOptions = {
  batch: 2,
  tokens: 5,
  topK: 3,
  loss: { divergence: divergenceOf('forward_kl'), kdRatio: 0.5, temperature: 2, chunkRows: 5 },
  optimiser: { beta1: 0.9, beta2: 0.95, weightDecay: 0.1, maxGradNorm: 1 },
};
const rows = 10;
export type Filled = Record<string, Tensor & { data: Float32Array }>;

/** Random parameters, zeros for moments and gradients, and one packed batch. */
export function feedsFor(graph: Graph): { parameters: Filled; state: Filled; batch: Record<string, Tensor> } {
  const random = lcg(11);
  const parameters: Filled = {};
  const state: Filled = {};
  for (const value of graph.inputs) {
    const shape = value.shape as number[];
    const size = shape.reduce((a, b) => a * b, 1);
    const zeros = { data: new Float32Array(size), shape };
    if (/^[gmv]:/.test(value.name)) state[value.name] = zeros;
    else if (/^(base_model|model)\./.test(value.name))
      parameters[value.name] = { data: zeros.data.map(() => random() - 0.5 + (shape.length === 1 ? 0.8 : 0)), shape };
  }
  const ids = Int32Array.from({ length: rows }, () => Math.floor(random() * 11));
  const batch: Record<string, Tensor> = {
    input_ids: { data: ids, shape: [2, 5] },
    position_ids: { data: BigInt64Array.from([0n, 1n, 2n, 0n, 1n, 0n, 1n, 2n, 3n, 4n]), shape: [2, 5] },
    segment_ids: { data: Int32Array.of(1, 1, 1, 2, 2, 1, 1, 1, 1, 1), shape: [2, 5] },
    labels: { data: Int32Array.from({ length: rows }, (_, i) => (i * 3) % 11), shape: [rows, 1] },
    row_weight: {
      data: Float32Array.from({ length: rows }, (_, i) => (i === 2 || i === 4 ? 0 : 1 / 8)),
      shape: [rows, 1],
    },
    teacher_ids: { data: Int32Array.from({ length: rows * 3 }, (_, i) => (i * 4) % 11), shape: [rows, 3] },
    teacher_logprobs: {
      data: Float32Array.from({ length: rows * 3 }, (_, i) => Math.log([0.5, 0.2, 0.1][i % 3]!)),
      shape: [rows, 3],
    },
    teacher_tail: { data: new Float32Array(rows).fill(Math.log(0.2)), shape: [rows, 1] },
  };
  return { parameters, state, batch };
}
