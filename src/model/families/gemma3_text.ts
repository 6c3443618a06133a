// Gemma 3 (text part): norms before and after every sublayer with gains stored as γ − 1, per-head norms of queries and keys, windows in
// five of six blocks with a RoPE base of their own, embeddings scaled by √width. Zone: edge and owner. Defaults as in Gemma3TextConfig.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import { JsonFields } from '../checkpoint/json-fields.js';
import { parseScaling } from '../checkpoint/rope-config.js';
import type { DecoderConfig } from '../config.js';
import { blockName } from '../decoder.js';
import type { TensorSource } from '../tensors.js';
import { type Family, notWritten, type Shape } from './family.js';
import { type Import, importedTensors, mapped, renamed } from './imported-tensors.js';

const fullEvery = 6;

/** `layer_types`, or the older `sliding_window_pattern`: every so many blocks one without a window. */
function slidingBlocks(fields: JsonFields, count: number): boolean[] {
  const types = fields.get('layer_types');
  if (types === undefined) {
    const every = fields.count('sliding_window_pattern', fullEvery);
    return Array.from({ length: count }, (_, block) => (block + 1) % every !== 0);
  }
  const known = ['sliding_attention', 'full_attention'];
  if (!Array.isArray(types) || types.length !== count || !types.every((type) => known.includes(type)))
    throw fields.wrong('layer_types', `a list of ${count} times ${known.join(' or ')}`);
  return types.map((type) => type === 'sliding_attention');
}

/** Both bases: `rope_parameters` by kind of block (transformers 5), or `rope_theta` with `rope_local_base_freq`. */
function readRope(
  fields: JsonFields,
  maxPositionEmbeddings: number,
): Pick<DecoderConfig, 'ropeTheta' | 'ropeScaling' | 'localRopeTheta'> {
  const parameters = fields.nested('rope_parameters');
  const full = parameters?.nested('full_attention');
  const local = parameters?.nested('sliding_attention');
  const scaling = full ?? fields.nested('rope_scaling');
  return {
    ropeTheta: (full ?? fields).positive('rope_theta', 1_000_000),
    ropeScaling: scaling === undefined ? null : parseScaling(scaling, maxPositionEmbeddings),
    localRopeTheta:
      local === undefined ? fields.positive('rope_local_base_freq', 10_000) : local.positive('rope_theta', 10_000),
  };
}

function readFeatures(fields: JsonFields, shape: Shape): Partial<DecoderConfig> {
  if (fields.flag('use_bidirectional_attention', false)) {
    throw new UnsupportedError(
      'attention-unsupported',
      `${fields.file}: "use_bidirectional_attention" is true; only causal language models are supported.`,
      { file: fields.file, key: 'use_bidirectional_attention' },
    );
  }
  const cap = (key: string): number | null => (fields.get(key) === undefined ? null : fields.positive(key));
  return {
    ...readRope(fields, shape.maxPositionEmbeddings),
    slidingBlocks: slidingBlocks(fields, shape.numHiddenLayers),
    norms: 'both',
    qkNorm: 'head',
    attentionScale: fields.positive('query_pre_attn_scalar', 256) ** -0.5,
    attentionSoftCap: cap('attn_logit_softcapping'),
    finalSoftCap: cap('final_logit_softcapping'),
    // The embedding is scaled and the head is not: they are two tensors here.
    tieWordEmbeddings: false,
  };
}

/** `gainOffset` is what the checkpoint leaves out of its gains: 1 in safetensors, 0 in GGUF. */
export function importGemma3(tensors: TensorSource, config: DecoderConfig, gainOffset: number): TensorSource {
  // Multimodal checkpoints put the text model one level down.
  const prefix =
    ['', 'language_model.', 'model.language_model.'].find((candidate) =>
      tensors.has(`${candidate}${candidate.startsWith('model.') ? '' : 'model.'}embed_tokens.weight`),
    ) ?? '';
  const stored = (name: string): string =>
    prefix === 'model.language_model.' ? name.replace(/^model\./, prefix) : `${prefix}${name}`;
  const gain = (name: string): Import => mapped(name, stored(name), (value) => value + gainOffset);
  const embedding = 'model.embed_tokens.weight';
  const scale = Math.sqrt(config.hiddenSize);
  const head = tensors.has(stored('lm_head.weight')) ? stored('lm_head.weight') : stored(embedding);
  const imports: Import[] = [
    mapped(embedding, stored(embedding), (value) => value * scale),
    gain('model.norm.weight'),
    renamed('lm_head.weight', head),
  ];
  const linear = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj'];
  const inner = ['mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj'];
  const norms = ['input', 'post_attention', 'pre_feedforward', 'post_feedforward'].map((part) => `${part}_layernorm`);
  for (let block = 0; block < config.numHiddenLayers; block++) {
    for (const part of [...linear, ...inner]) {
      for (const kind of ['weight', 'bias']) {
        const name = blockName(block, `${part}.${kind}`);
        imports.push(renamed(name, stored(name)));
      }
    }
    for (const part of [...norms, 'self_attn.q_norm', 'self_attn.k_norm'])
      imports.push(gain(blockName(block, `${part}.weight`)));
  }
  return importedTensors(tensors, imports);
}

export const gemma3Text: Family = {
  modelType: 'gemma3_text',
  architecture: 'Gemma3ForCausalLM',
  defaults: {
    numKeyValueHeads: 4,
    maxPositionEmbeddings: 131072,
    bosTokenId: 2,
    eosTokenIds: [1],
    headDim: 256,
    activation: 'gelu_pytorch_tanh',
  },
  student: false,
  activations: { gelu_pytorch_tanh: 'gelu' },
  renameKeys(fields) {
    const activation = fields.get('hidden_activation') ?? fields.get('hidden_act');
    return new JsonFields({ ...fields.record, hidden_act: activation }, fields.file, fields.prefix);
  },
  readBiases(fields) {
    const attention = fields.flag('attention_bias', false);
    return { qkvBias: attention, outputBias: attention, mlpBias: false };
  },
  readSlidingWindow: (fields) =>
    fields.has('sliding_window') && fields.get('sliding_window') === undefined
      ? null
      : fields.count('sliding_window', 4096),
  readsRope: true,
  readFeatures,
  importTensors: (tensors, config) => importGemma3(tensors, config, 1),
  toHf: () => notWritten('gemma3_text'),
};
