// The models that benches run: shapes of real ones, weights random (speed does not depend on their values).

import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { type DecoderConfig, plainFeatures } from '../../src/model/config.js';
import type { TensorInfo, TensorSource } from '../../src/model/tensors.js';

const common = {
  ...plainFeatures,
  modelType: 'llama',
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: null,
  slidingWindow: null,
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  tieWordEmbeddings: true,
  bosTokenId: 1,
  eosTokenIds: [2],
  padTokenId: 2,
  initializerRange: 0.02,
} as const;

/** SmolLM2-135M: 134.5 M weights. */
export const smolLm2: DecoderConfig = {
  ...common,
  vocabSize: 49_152,
  hiddenSize: 576,
  intermediateSize: 1536,
  numHiddenLayers: 30,
  numAttentionHeads: 9,
  numKeyValueHeads: 3,
  headDim: 64,
  ropeTheta: 100_000,
  maxPositionEmbeddings: 8192,
};

/** Llama-3.2-1B's width and heads with a small vocabulary: 1.04 G weights. */
export const wide: DecoderConfig = {
  ...common,
  vocabSize: 32_000,
  hiddenSize: 2048,
  intermediateSize: 8192,
  numHiddenLayers: 16,
  numAttentionHeads: 32,
  numKeyValueHeads: 8,
  headDim: 64,
  ropeTheta: 500_000,
  maxPositionEmbeddings: 8192,
};

/** The student of the `train` bench: 13.8 M weights. */
export const smallStudent: DecoderConfig = {
  ...common,
  vocabSize: 8192,
  hiddenSize: 384,
  intermediateSize: 1024,
  numHiddenLayers: 6,
  numAttentionHeads: 6,
  numKeyValueHeads: 6,
  headDim: 64,
  maxPositionEmbeddings: 512,
};

/** Numbers in [−scale, scale) from a seed. */
export function randomFloats(size: number, seed: number, scale: number): Float32Array {
  const data = new Float32Array(size);
  let state = seed >>> 0;
  for (let i = 0; i < size; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = (state / 2 ** 31 - 1) * scale;
  }
  return data;
}

/** A checkpoint of this shape with random weights, made as they are read. */
export function randomTensors(config: DecoderConfig): TensorSource {
  const tensors = new Map(expectedTensors(config).map((info): [string, TensorInfo] => [info.name, info]));
  const info = (name: string): TensorInfo => tensors.get(name)!;
  return {
    list: () => [...tensors.values()],
    has: (name) => tensors.has(name),
    info,
    read: async (name) => {
      const { shape } = info(name);
      const size = shape.reduce((a, b) => a * b, 1);
      return shape.length === 1 ? new Float32Array(size).fill(1) : randomFloats(size, name.length * 7919 + size, 0.05);
    },
    close: async () => undefined,
  };
}

/** Token ids of `count` rows of `tokens`, spread over the vocabulary. */
export function someIds(count: number, vocabSize: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => (i * 7919 + 11) % vocabSize);
}
