// Which tensors a configuration demands, with Hugging Face names and shapes, and the check that a checkpoint has them.
// Zone: edge and owner.

import { MalformedError } from '../../trusted/wire/errors.js';
import type { DecoderConfig } from '../config.js';
import { normNames, type Sublayer } from '../decoder.js';
import type { TensorInfo, TensorSource } from '../tensors.js';

/** In the order of computation; `lm_head.weight` is absent when the head is tied to the embedding. dtype is F32 throughout. */
export function expectedTensors(config: DecoderConfig): TensorInfo[] {
  const { hiddenSize: width, intermediateSize: inner, vocabSize } = config;
  const queryWidth = config.numAttentionHeads * config.headDim;
  const keyWidth = config.numKeyValueHeads * config.headDim;
  const tensors: TensorInfo[] = [];
  const add = (name: string, ...shape: number[]): void => {
    tensors.push({ name, shape, dtype: 'F32' });
  };
  const linear = (name: string, out: number, input: number, bias: boolean): void => {
    add(`${name}.weight`, out, input);
    if (bias) add(`${name}.bias`, out);
  };
  add('model.embed_tokens.weight', vocabSize, width);
  if (config.positions === 'learned') add('model.embed_positions.weight', config.maxPositionEmbeddings, width);
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const block = `model.layers.${layer}`;
    const norm = (sublayer: Sublayer, side: 'before' | 'after'): void => {
      const name = normNames(config.norms, layer, sublayer)[side];
      if (name !== null) add(`${name}.weight`, width);
    };
    norm('attention', 'before');
    linear(`${block}.self_attn.q_proj`, queryWidth, width, config.qkvBias);
    linear(`${block}.self_attn.k_proj`, keyWidth, width, config.qkvBias);
    linear(`${block}.self_attn.v_proj`, keyWidth, width, config.qkvBias);
    if (config.qkNorm !== null) {
      const perHead = config.qkNorm === 'head';
      add(`${block}.self_attn.q_norm.weight`, perHead ? config.headDim : queryWidth);
      add(`${block}.self_attn.k_norm.weight`, perHead ? config.headDim : keyWidth);
    }
    linear(`${block}.self_attn.o_proj`, width, queryWidth, config.outputBias);
    norm('attention', 'after');
    norm('feedForward', 'before');
    if (config.gatedMlp) linear(`${block}.mlp.gate_proj`, inner, width, config.mlpBias);
    linear(`${block}.mlp.up_proj`, inner, width, config.mlpBias);
    linear(`${block}.mlp.down_proj`, width, inner, config.mlpBias);
    norm('feedForward', 'after');
  }
  add('model.norm.weight', width);
  if (!config.tieWordEmbeddings) add('lm_head.weight', vocabSize, width);
  if (config.headBias) add('lm_head.bias', vocabSize);
  return tensors;
}

/** Throws MalformedError for the first tensor that is missing or has another shape than the configuration demands. */
export function checkTensors(tensors: TensorSource, config: DecoderConfig, file: string): void {
  for (const { name, shape } of expectedTensors(config)) {
    if (!tensors.has(name)) {
      throw new MalformedError(
        'tensor-missing',
        `${file} has no tensor "${name}" (expected shape [${shape.join(', ')}]): weights and config.json do not belong together or a file is incomplete.`,
        { file, tensor: name, expected: shape.join('x') },
      );
    }
    const found = tensors.info(name).shape;
    if (found.length !== shape.length || found.some((size, axis) => size !== shape[axis])) {
      throw new MalformedError(
        'tensor-shape',
        `${file}: tensor "${name}" has shape [${found.join(', ')}], config.json demands [${shape.join(', ')}].`,
        { file, tensor: name, expected: shape.join('x'), found: found.join('x') },
      );
    }
  }
}
