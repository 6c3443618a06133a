// Phi-3: Llama whose q, k, v and gate, up are stored as one matrix each, with an attention window where one is given.
// Zone: edge and owner. Defaults as in transformers' Phi3Config. Long-context variants (`longrope`) are refused with their key.

import type { DecoderConfig } from '../config.js';
import { blockName } from '../decoder.js';
import type { TensorSource } from '../tensors.js';
import { type Family, notWritten, silu } from './family.js';
import { type Import, importedTensors, renamed, rowsOf } from './imported-tensors.js';

function importTensors(tensors: TensorSource, config: DecoderConfig): TensorSource {
  const { numAttentionHeads, numKeyValueHeads, headDim, intermediateSize: inner } = config;
  const [query, key] = [numAttentionHeads * headDim, numKeyValueHeads * headDim];
  const imports: Import[] = ['model.embed_tokens.weight', 'model.norm.weight', 'lm_head.weight'].map((name) =>
    renamed(name, name),
  );
  for (let block = 0; block < config.numHiddenLayers; block++) {
    const name = (part: string): string => blockName(block, `${part}.weight`);
    const qkv = name('self_attn.qkv_proj');
    const gateUp = name('mlp.gate_up_proj');
    imports.push(
      rowsOf(name('self_attn.q_proj'), qkv, 0, query, query + 2 * key),
      rowsOf(name('self_attn.k_proj'), qkv, query, key, query + 2 * key),
      rowsOf(name('self_attn.v_proj'), qkv, query + key, key, query + 2 * key),
      rowsOf(name('mlp.gate_proj'), gateUp, 0, inner, 2 * inner),
      rowsOf(name('mlp.up_proj'), gateUp, inner, inner, 2 * inner),
    );
    for (const part of ['input_layernorm', 'post_attention_layernorm', 'self_attn.o_proj', 'mlp.down_proj'])
      imports.push(renamed(name(part), name(part)));
  }
  return importedTensors(tensors, imports);
}

export const phi3: Family = {
  modelType: 'phi3',
  architecture: 'Phi3ForCausalLM',
  defaults: {
    numKeyValueHeads: null,
    maxPositionEmbeddings: 4096,
    bosTokenId: 1,
    eosTokenIds: [32000],
    rmsNormEps: 1e-5,
  },
  student: false,
  activations: silu,
  readBiases: () => ({ qkvBias: false, outputBias: false, mlpBias: false }),
  readSlidingWindow: (fields) => (fields.get('sliding_window') === undefined ? null : fields.count('sliding_window')),
  importTensors,
  toHf: () => notWritten('phi3'),
};
