// A random Llama-shaped checkpoint small enough for every test, and a folder that goes away. Not a test itself.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { memoryTensors } from '../../src/model/checkpoint/memory-tensors.js';
import { type DecoderConfig, plainFeatures } from '../../src/model/config.js';
import { buildSegments } from '../../src/model/segments.js';
import type { TensorSource } from '../../src/model/tensors.js';

export const tinyConfig: DecoderConfig = {
  ...plainFeatures,
  modelType: 'llama',
  vocabSize: 97,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 8,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  maxPositionEmbeddings: 64,
  slidingWindow: null,
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  tieWordEmbeddings: true,
  bosTokenId: 1,
  eosTokenIds: [2],
  padTokenId: null,
  initializerRange: 0.02,
};

/** Shapes of the checkpoint's own tensors, linear ones [out, in]. */
function shapes(config: DecoderConfig): Map<string, readonly number[]> {
  const { hiddenSize: d, intermediateSize: m, headDim: e } = config;
  const queries = config.numAttentionHeads * e;
  const keys = config.numKeyValueHeads * e;
  const linear: Readonly<Record<string, readonly number[]>> = {
    q_proj: [queries, d],
    k_proj: [keys, d],
    v_proj: [keys, d],
    o_proj: [d, queries],
    gate_proj: [m, d],
    up_proj: [m, d],
    down_proj: [d, m],
  };
  const found = new Map<string, readonly number[]>();
  for (const weight of buildSegments(config).flatMap((segment) => segment.weights)) {
    for (const part of weight.parts) {
      const projection = part.tensor.split('.').at(-2) ?? '';
      const vocabulary = /embed_tokens|lm_head/.test(part.tensor);
      found.set(part.tensor, vocabulary ? [config.vocabSize, d] : (linear[projection] ?? [d]));
    }
  }
  return found;
}

export interface TinyCheckpoint {
  readonly config: DecoderConfig;
  readonly tensors: TensorSource;
  readonly tokenizer: { readonly 'tokenizer.json': Uint8Array };
}

/** `headDim` of at least 8 for a checkpoint that is run. */
export function tinyCheckpoint(headDim: number = tinyConfig.headDim): TinyCheckpoint {
  const config = { ...tinyConfig, headDim };
  let state = 12345;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const tensors = [...shapes(config)].map(([name, shape]) => {
    const size = shape.reduce((product, length) => product * length, 1);
    return { name, shape, data: Float32Array.from({ length: size }, random) };
  });
  const tokenizer = { 'tokenizer.json': new TextEncoder().encode('{"version":"1.0"}') };
  return { config, tensors: memoryTensors(tensors, 'tiny'), tokenizer };
}

/** A temporary folder that is removed when the test ends. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-test-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
