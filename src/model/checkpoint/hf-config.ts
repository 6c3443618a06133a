// Hugging Face config.json ↔ DecoderConfig. What one family does differently lives in ../families.
// Zone: edge and owner. Defaults are those of transformers; what this version cannot compute is refused by file and key.

import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import { type DecoderConfig, plainFeatures } from '../config.js';
import type { Family } from '../families/family.js';
import { familyOf } from '../families/index.js';
import { isRecord, JsonFields } from './json-fields.js';
import { parseRope, ropeToHf } from './rope-config.js';

/**
 * Reads a parsed config.json; `file` is only named in errors.
 * Throws UnsupportedError for an architecture, activation or rotary type not built here, MalformedError for a missing or wrong key.
 */
export function parseConfig(json: unknown, file: string): DecoderConfig {
  if (!isRecord(json)) throw new MalformedError('config-invalid', `${file} must hold a JSON object.`, { file });
  const { family, fields } = familyFields(new JsonFields(json, file));
  const { defaults } = family;
  const written = fields.text('hidden_act', defaults.activation ?? 'silu');
  const activation = Object.hasOwn(family.activations, written) ? family.activations[written] : undefined;
  if (activation === undefined) {
    throw new UnsupportedError(
      'activation-unsupported',
      `${file}: "hidden_act" is "${written}"; supported for ${family.modelType} is ${Object.keys(family.activations).join(' or ')}.`,
      { file, key: 'hidden_act' },
    );
  }
  if (fields.get('quantization_config') !== undefined) {
    throw new UnsupportedError(
      'quantization-unsupported',
      `${file}: "quantization_config" is set; supported are unquantised safetensors and GGUF. Use the original checkpoint.`,
      { file, key: 'quantization_config' },
    );
  }
  const hiddenSize = fields.count('hidden_size');
  const numHiddenLayers = fields.count('num_hidden_layers');
  const numAttentionHeads = fields.count('num_attention_heads');
  const numKeyValueHeads = fields.count('num_key_value_heads', defaults.numKeyValueHeads ?? numAttentionHeads);
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    throw fields.wrong('num_key_value_heads', `a divisor of num_attention_heads (${numAttentionHeads})`);
  }
  const headDim =
    fields.get('head_dim') === undefined
      ? (defaults.headDim ?? hiddenSize / numAttentionHeads)
      : fields.count('head_dim');
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw fields.wrong('head_dim', `an even number (hidden_size / num_attention_heads gives ${headDim})`);
  }
  const maxPositionEmbeddings = fields.count('max_position_embeddings', defaults.maxPositionEmbeddings);
  const shape = { hiddenSize, numHiddenLayers, headDim, maxPositionEmbeddings };
  return {
    ...plainFeatures,
    modelType: family.modelType,
    vocabSize: fields.count('vocab_size'),
    hiddenSize,
    intermediateSize: fields.count('intermediate_size'),
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    rmsNormEps: fields.positive('rms_norm_eps', defaults.rmsNormEps ?? 1e-6),
    ...readRope(family, fields, maxPositionEmbeddings),
    maxPositionEmbeddings,
    slidingWindow: family.readSlidingWindow(fields, numHiddenLayers),
    ...family.readBiases(fields),
    tieWordEmbeddings: fields.flag('tie_word_embeddings', defaults.tieWordEmbeddings ?? false),
    bosTokenId: fields.has('bos_token_id') ? fields.tokenId('bos_token_id') : defaults.bosTokenId,
    eosTokenIds: fields.has('eos_token_id') ? fields.tokenIds('eos_token_id') : defaults.eosTokenIds,
    padTokenId: fields.tokenId('pad_token_id'),
    initializerRange: fields.positive('initializer_range', 0.02),
    activation,
    ...family.readFeatures?.(fields, shape),
  };
}

/** The family, and its settings under the common keys; a multimodal `gemma3` gives the settings of its text part. */
function familyFields(fields: JsonFields): { family: Family; fields: JsonFields } {
  const modelType = fields.text('model_type');
  const text = modelType === 'gemma3' ? fields.nested('text_config') : undefined;
  if (text !== undefined)
    return familyFields(new JsonFields({ model_type: 'gemma3_text', ...text.record }, fields.file));
  const family = familyOf(modelType, fields.file);
  return { family, fields: family.renameKeys?.(fields) ?? fields };
}

// Gemma's two bases are read by its own file: `rope_parameters` has another shape there.
function readRope(family: Family, fields: JsonFields, maxPositionEmbeddings: number) {
  const plain = { ropeTheta: 10000, ropeScaling: null };
  return family.readsRope ? plain : parseRope(fields, maxPositionEmbeddings, family.defaults.ropeTheta);
}

/** The config.json object that transformers reads back as the same model; `parseConfig(toHfConfig(c))` equals `c`. */
export function toHfConfig(config: DecoderConfig): Record<string, unknown> {
  const family = familyOf(config.modelType, 'config');
  const { eosTokenIds } = config;
  return {
    architectures: [family.architecture],
    model_type: config.modelType,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    rms_norm_eps: config.rmsNormEps,
    ...ropeToHf(config),
    max_position_embeddings: config.maxPositionEmbeddings,
    ...family.toHf(config),
    tie_word_embeddings: config.tieWordEmbeddings,
    bos_token_id: config.bosTokenId,
    eos_token_id: eosTokenIds.length === 0 ? null : eosTokenIds.length === 1 ? eosTokenIds[0] : eosTokenIds,
    pad_token_id: config.padTokenId,
    initializer_range: config.initializerRange,
    use_cache: true,
  };
}
