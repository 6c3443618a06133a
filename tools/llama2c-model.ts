// A llama2.c checkpoint (version 0) as tensors under Hugging Face's names; queries and keys are reordered for half-split RoPE, the head stays tied.
import type { MemoryTensor } from '../src/model/checkpoint/memory-tensors.js';
import { adjacentToHalfSplit } from '../src/model/checkpoint/rope-rows.js';
import { type DecoderConfig, plainFeatures } from '../src/model/config.js';

const bosId = 1;

/** Seven int32 of header, then float32 tensors; a positive vocabulary size means a tied head. */
export function parseLlama2cModel(bytes: Buffer): { config: DecoderConfig; tensors: MemoryTensor[] } {
  const header = (index: number): number => bytes.readInt32LE(index * 4);
  const [hiddenSize, intermediateSize, layers, heads, keyHeads, vocabSize, length] = [0, 1, 2, 3, 4, 5, 6].map(
    header,
  ) as [number, number, number, number, number, number, number];
  if (vocabSize < 0) throw new Error('Only models with a tied head are expected here.');
  const headDim = hiddenSize / heads;
  let position = 28;
  const take = (...shape: number[]): Float32Array => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = new Float32Array(
      bytes.buffer.slice(bytes.byteOffset + position, bytes.byteOffset + position + count * 4),
    );
    position += count * 4;
    return values;
  };
  const tensors: MemoryTensor[] = [];
  const add = (name: string, data: Float32Array, ...shape: number[]): void => {
    tensors.push({ name, shape, data });
  };
  const perLayer = (name: string, reorder: boolean, ...shape: number[]): void => {
    for (let layer = 0; layer < layers; layer++) {
      const rows = take(...shape);
      add(
        `model.layers.${layer}.${name}.weight`,
        reorder ? adjacentToHalfSplit(rows, headDim, hiddenSize) : rows,
        ...shape,
      );
    }
  };
  add('model.embed_tokens.weight', take(vocabSize, hiddenSize), vocabSize, hiddenSize);
  perLayer('input_layernorm', false, hiddenSize);
  perLayer('self_attn.q_proj', true, hiddenSize, hiddenSize);
  perLayer('self_attn.k_proj', true, keyHeads * headDim, hiddenSize);
  perLayer('self_attn.v_proj', false, keyHeads * headDim, hiddenSize);
  perLayer('self_attn.o_proj', false, hiddenSize, hiddenSize);
  perLayer('post_attention_layernorm', false, hiddenSize);
  perLayer('mlp.gate_proj', false, intermediateSize, hiddenSize);
  perLayer('mlp.down_proj', false, hiddenSize, intermediateSize);
  perLayer('mlp.up_proj', false, intermediateSize, hiddenSize);
  add('model.norm.weight', take(hiddenSize), hiddenSize);
  if (position + length * headDim * 4 !== bytes.length) throw new Error('The model file has an unexpected size.');
  const config: DecoderConfig = {
    ...plainFeatures,
    modelType: 'llama',
    vocabSize,
    hiddenSize,
    intermediateSize,
    numHiddenLayers: layers,
    numAttentionHeads: heads,
    numKeyValueHeads: keyHeads,
    headDim,
    rmsNormEps: 1e-5,
    ropeTheta: 10000,
    ropeScaling: null,
    maxPositionEmbeddings: length,
    slidingWindow: null,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    tieWordEmbeddings: true,
    bosTokenId: bosId,
    // The model ends a story with BOS, as llama2.c does; 2 is the unused </s> of its vocabulary.
    eosTokenIds: [bosId, 2],
    padTokenId: null,
    initializerRange: 0.02,
  };
  return { config, tensors };
}
