// GGUF metadata → DecoderConfig, for the architectures `llama` (Mistral included), `qwen2`, `qwen3`, `gemma3` and `phi3`.
// Zone: edge and owner. What the file does not state is taken from its tensors: tied head, biases, vocabulary.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import { type DecoderConfig, plainFeatures, type RopeScaling } from '../config.js';
import type { GgufValue } from './gguf-header.js';
import { JsonFields } from './json-fields.js';

/** What the tensor table tells. */
export interface GgufTensorFacts {
  has(hfName: string): boolean;
  readonly vocabSize: number;
  /** Contents of `rope_freqs.weight`, where present. */
  readonly ropeFactors: Float32Array | undefined;
}

export function parseGgufConfig(
  metadata: Readonly<Record<string, GgufValue>>,
  facts: GgufTensorFacts,
  file: string,
): DecoderConfig {
  const root = new JsonFields(metadata, file);
  const architecture = root.text('general.architecture');
  if (!isKnown(architecture)) {
    const known = `supported are ${Object.keys(modelTypes).join(', ')} (llama with Mistral)`;
    throw unsupported(file, 'general.architecture', architecture, known);
  }
  const fields = new JsonFields(withoutPrefix(metadata, `${architecture}.`), file, `${architecture}.`);
  if (fields.get('expert_count') !== undefined && fields.get('expert_count') !== 0) {
    throw unsupported(
      file,
      `${architecture}.expert_count`,
      fields.get('expert_count'),
      'mixtures of experts are not supported',
    );
  }
  const hiddenSize = fields.count('embedding_length');
  const numAttentionHeads = fields.count('attention.head_count');
  const headDim = fields.count('attention.key_length', hiddenSize / numAttentionHeads);
  if (
    headDim % 2 !== 0 ||
    fields.count('attention.value_length', headDim) !== headDim ||
    fields.count('rope.dimension_count', headDim) !== headDim
  ) {
    throw unsupported(
      file,
      `${architecture}.attention.key_length`,
      headDim,
      'keys, values and rotary dimensions must have the same even width',
    );
  }
  const ropeTheta = fields.positive('rope.freq_base', 10000);
  const maxPositionEmbeddings = fields.count('context_length');
  const slidingWindow =
    fields.get('attention.sliding_window') === undefined ? null : fields.count('attention.sliding_window');
  const layer = 'model.layers.0';
  const numHiddenLayers = fields.count('block_count');
  return {
    ...plainFeatures,
    modelType: architecture === 'llama' && slidingWindow !== null ? 'mistral' : modelTypes[architecture],
    vocabSize: facts.vocabSize,
    hiddenSize,
    intermediateSize: fields.count('feed_forward_length'),
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads: fields.count('attention.head_count_kv', numAttentionHeads),
    headDim,
    rmsNormEps: fields.positive('attention.layer_norm_rms_epsilon'),
    ropeTheta,
    ropeScaling: readScaling(fields, facts.ropeFactors, ropeTheta, headDim),
    maxPositionEmbeddings,
    slidingWindow,
    qkvBias: facts.has(`${layer}.self_attn.q_proj.bias`),
    outputBias: facts.has(`${layer}.self_attn.o_proj.bias`),
    mlpBias: facts.has(`${layer}.mlp.gate_proj.bias`),
    tieWordEmbeddings: !facts.has('lm_head.weight'),
    bosTokenId: root.tokenId('tokenizer.ggml.bos_token_id'),
    eosTokenIds: [
      ...new Set([...root.tokenIds('tokenizer.ggml.eos_token_id'), ...root.tokenIds('tokenizer.ggml.eot_token_id')]),
    ],
    padTokenId: root.tokenId('tokenizer.ggml.padding_token_id'),
    initializerRange: 0.02,
    ...readFeatures(architecture, fields, numHiddenLayers, headDim),
  };
}

const modelTypes = { llama: 'llama', qwen2: 'qwen2', qwen3: 'qwen3', gemma3: 'gemma3_text', phi3: 'phi3' } as const;
type Architecture = keyof typeof modelTypes;

function isKnown(architecture: string): architecture is Architecture {
  return Object.hasOwn(modelTypes, architecture);
}

function readFeatures(
  architecture: Architecture,
  fields: JsonFields,
  blocks: number,
  headDim: number,
): Partial<DecoderConfig> {
  if (architecture === 'qwen3') return { qkNorm: 'head' };
  if (architecture !== 'gemma3') return {};
  const cap = (key: string): number | null => (fields.get(key) === undefined ? null : fields.positive(key));
  // Gemma 3 27B alone scales by its width per head instead of the heads' own width.
  const scaled = blocks === 62 ? fields.count('embedding_length') / fields.count('attention.head_count') : headDim;
  return {
    slidingBlocks: slidingBlocks(fields, blocks),
    localRopeTheta: fields.positive('rope.freq_base_swa', 10_000),
    norms: 'both',
    qkNorm: 'head',
    activation: 'gelu',
    attentionScale: scaled ** -0.5,
    attentionSoftCap: cap('attn_logit_softcapping'),
    finalSoftCap: cap('final_logit_softcapping'),
    tieWordEmbeddings: false,
  };
}

/** Which blocks have a window: a flag each, or one without after every so many; by default every sixth, as in llama.cpp's loader. */
function slidingBlocks(fields: JsonFields, blocks: number): boolean[] {
  const key = 'attention.sliding_window_pattern';
  const pattern = fields.get(key);
  if (typeof pattern === 'boolean') return Array<boolean>(blocks).fill(pattern);
  if (Array.isArray(pattern)) {
    if (pattern.length !== blocks) throw fields.wrong(key, `a number or a list of ${blocks} flags`);
    return pattern.map((item) => item === true || item === 1);
  }
  const every = fields.count(key, 6);
  return Array.from({ length: blocks }, (_, block) => (block + 1) % every !== 0);
}

function readScaling(
  fields: JsonFields,
  factors: Float32Array | undefined,
  theta: number,
  headDim: number,
): RopeScaling | null {
  if (factors !== undefined) return llama3Scaling(factors, theta, headDim, fields.file);
  const type = fields.text('rope.scaling.type', 'none');
  if (type === 'none') return null;
  if (type === 'linear') return { type, factor: fields.positive('rope.scaling.factor') };
  throw unsupported(
    fields.file,
    `${fields.prefix}rope.scaling.type`,
    type,
    'supported are none, linear and the llama3 factors',
  );
}

/** llama.cpp stores llama3 scaling as one divisor per frequency; the settings that all released models use give it back exactly. */
function llama3Scaling(factors: Float32Array, theta: number, headDim: number, file: string): RopeScaling {
  const candidate = {
    type: 'llama3' as const,
    factor: Math.max(...factors),
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 8192,
  };
  const expected = llama3Factors(candidate, theta, headDim);
  if (factors.length !== expected.length || factors.some((factor, i) => Math.abs(factor / expected[i]! - 1) > 1e-3)) {
    throw new UnsupportedError(
      'rope-unsupported',
      `${file}: tensor "rope_freqs.weight" holds frequency factors other than llama3's (1, 4, 8192); use the safetensors checkpoint.`,
      { file, tensor: 'rope_freqs.weight' },
    );
  }
  return candidate;
}

/** The divisor of each rotary frequency under llama3 scaling, as in transformers' modeling_rope_utils. */
export function llama3Factors(
  scaling: Extract<RopeScaling, { type: 'llama3' }>,
  theta: number,
  headDim: number,
): number[] {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: original } = scaling;
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / headDim);
    if (wavelength < original / highFreqFactor) return 1;
    if (wavelength > original / lowFreqFactor) return factor;
    const smooth = (original / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

function withoutPrefix(metadata: Readonly<Record<string, GgufValue>>, prefix: string): Record<string, GgufValue> {
  const entries = Object.entries(metadata).filter(([key]) => key.startsWith(prefix));
  return Object.fromEntries(entries.map(([key, value]) => [key.slice(prefix.length), uniform(value)]));
}

/** Some writers repeat a number per layer; equal numbers are one setting. */
function uniform(value: GgufValue): GgufValue {
  return Array.isArray(value) && value.length > 0 && value.every((item) => item === value[0]) ? value[0]! : value;
}

function unsupported(file: string, key: string, found: unknown, what: string): UnsupportedError {
  return new UnsupportedError('architecture-unsupported', `${file}: "${key}" is ${JSON.stringify(found)}; ${what}.`, {
    file,
    key,
  });
}
