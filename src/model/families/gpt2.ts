// GPT-2: LayerNorm, learned positions, biases everywhere, a feed-forward without gate, a tied head; linear weights stored [in, out].
// Zone: edge and owner. LayerNorm becomes RMSNorm exactly (DESIGN section 3): whatever writes the residual is centred, γ stays a gain, and
// β goes into the biases of what reads the norm, the head included.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import { JsonFields } from '../checkpoint/json-fields.js';
import type { DecoderConfig } from '../config.js';
import { blockName } from '../decoder.js';
import type { TensorSource } from '../tensors.js';
import { transposed } from '../weight-tiles.js';
import { type Family, notWritten } from './family.js';
import { type Import, importedTensors, renamed } from './imported-tensors.js';

/** Rows [n, width] less their own mean: x(I − 11ᵀ/width). Summed in float64. */
function centreRows(rows: Float32Array, width: number): Float32Array {
  const out = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += width) {
    let sum = 0;
    for (let i = start; i < start + width; i++) sum += rows[i]!;
    for (let i = start; i < start + width; i++) out[i] = rows[i]! - sum / width;
  }
  return out;
}

/** β·W for W [in, out]: what a norm's shift adds to the outputs of a linear layer behind it. Summed in float64. */
function shiftThrough(beta: Float32Array, weight: Float32Array, out: number): Float64Array {
  const sum = new Float64Array(out);
  for (let i = 0; i < beta.length; i++) for (let j = 0; j < out; j++) sum[j]! += beta[i]! * weight[i * out + j]!;
  return sum;
}

function importTensors(tensors: TensorSource, config: DecoderConfig): TensorSource {
  const { hiddenSize: width, intermediateSize: inner } = config;
  // The original checkpoint leaves the prefix out.
  const prefix = tensors.has('transformer.wte.weight') ? 'transformer.' : '';
  const head = tensors.has('lm_head.weight') ? 'lm_head.weight' : `${prefix}wte.weight`;
  const centred = (name: string, from: string): Import => ({
    name,
    from: [`${prefix}${from}`],
    firstRow: 0,
    values: ([rows]) => centreRows(rows!, width),
  });
  const imports: Import[] = [
    centred('model.embed_tokens.weight', 'wte.weight'),
    centred('model.embed_positions.weight', 'wpe.weight'),
    renamed('model.norm.weight', `${prefix}ln_f.weight`),
    renamed('lm_head.weight', head),
    {
      name: 'lm_head.bias',
      from: [head, `${prefix}ln_f.bias`],
      shape: ([table]) => [table![0]!],
      values: ([table, beta]) =>
        Float32Array.from({ length: table!.length / width }, (_, row) => {
          let sum = 0;
          for (let i = 0; i < width; i++) sum += table![row * width + i]! * beta![i]!;
          return sum;
        }),
    },
  ];
  /** Columns `start`.. of the stored [in, total] matrix behind a norm, as [out, in], and its bias with the norm's shift. */
  const reader = (name: string, from: string, norm: string, start: number, out: number, total: number): Import[] => {
    const [weight, bias] = [`${prefix}${from}.weight`, `${prefix}${from}.bias`];
    return [
      {
        name: `${name}.weight`,
        from: [weight],
        shape: ([stored]) => (stored![1] === total ? [out, stored![0]!] : stored!),
        values: ([stored]) => transposed(stored!, width, total).slice(start * width, (start + out) * width),
      },
      {
        name: `${name}.bias`,
        from: [bias, weight, `${prefix}${norm}.bias`],
        shape: ([stored]) => (stored![0] === total ? [out] : stored!),
        values: ([stored, matrix, beta]) => {
          const shift = shiftThrough(beta!, matrix!, total);
          return Float32Array.from({ length: out }, (_, i) => stored![start + i]! + shift[start + i]!);
        },
      },
    ];
  };
  /** A stored [in, width] matrix that writes the residual, centred, as [width, in], and its bias. */
  const writer = (name: string, from: string, input: number): Import[] => [
    {
      name: `${name}.weight`,
      from: [`${prefix}${from}.weight`],
      shape: ([stored]) => [...stored!].reverse(),
      values: ([stored]) => transposed(centreRows(stored!, width), input, width),
    },
    centred(`${name}.bias`, `${from}.bias`),
  ];
  for (let block = 0; block < config.numHiddenLayers; block++) {
    const name = (part: string): string => blockName(block, part);
    const from = `h.${block}`;
    ['q_proj', 'k_proj', 'v_proj'].forEach((part, i) => {
      imports.push(
        ...reader(name(`self_attn.${part}`), `${from}.attn.c_attn`, `${from}.ln_1`, i * width, width, 3 * width),
      );
    });
    imports.push(
      renamed(name('input_layernorm.weight'), `${prefix}${from}.ln_1.weight`),
      renamed(name('post_attention_layernorm.weight'), `${prefix}${from}.ln_2.weight`),
      ...writer(name('self_attn.o_proj'), `${from}.attn.c_proj`, width),
      ...reader(name('mlp.up_proj'), `${from}.mlp.c_fc`, `${from}.ln_2`, 0, inner, inner),
      ...writer(name('mlp.down_proj'), `${from}.mlp.c_proj`, inner),
    );
  }
  return importedTensors(tensors, imports);
}

function renameKeys(fields: JsonFields): JsonFields {
  const hiddenSize = fields.count('n_embd', 768);
  for (const [key, expected] of [
    ['scale_attn_weights', true],
    ['scale_attn_by_inverse_layer_idx', false],
    ['add_cross_attention', false],
  ] as const) {
    if (fields.flag(key, expected) !== expected) {
      throw new UnsupportedError('attention-unsupported', `${fields.file}: "${key}" must be ${expected}.`, {
        file: fields.file,
        key,
      });
    }
  }
  const record = {
    ...fields.record,
    vocab_size: fields.count('vocab_size', 50257),
    hidden_size: hiddenSize,
    intermediate_size: fields.count('n_inner', 4 * hiddenSize),
    num_hidden_layers: fields.count('n_layer', 12),
    num_attention_heads: fields.count('n_head', 12),
    max_position_embeddings: fields.count('n_positions', 1024),
    rms_norm_eps: fields.positive('layer_norm_epsilon', 1e-5),
    hidden_act: fields.text('activation_function', 'gelu_new'),
  };
  return new JsonFields(record, fields.file, fields.prefix);
}

export const gpt2: Family = {
  modelType: 'gpt2',
  architecture: 'GPT2LMHeadModel',
  defaults: { numKeyValueHeads: null, maxPositionEmbeddings: 1024, bosTokenId: 50256, eosTokenIds: [50256] },
  student: false,
  activations: { gelu_new: 'gelu', gelu_pytorch_tanh: 'gelu' },
  renameKeys,
  readBiases: () => ({ qkvBias: true, outputBias: true, mlpBias: true }),
  readSlidingWindow: () => null,
  readsRope: true,
  readFeatures: () => ({ positions: 'learned', gatedMlp: false, headBias: true, tieWordEmbeddings: false }),
  importTensors,
  toHf: () => notWritten('gpt2'),
};
