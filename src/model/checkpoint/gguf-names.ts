// GGUF tensor names ↔ Hugging Face names, for the architectures this version reads.
// Zone: edge and owner. Names as llama.cpp's conversion writes them.

const llamaParts: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

const architectureParts: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  qwen3: { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' },
  gemma3: {
    attn_q_norm: 'self_attn.q_norm',
    attn_k_norm: 'self_attn.k_norm',
    post_attention_norm: 'post_attention_layernorm',
    ffn_norm: 'pre_feedforward_layernorm',
    post_ffw_norm: 'post_feedforward_layernorm',
  },
  phi3: { attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' },
};

const topNames: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};

/** llama.cpp's frequency factors; they become `ropeScaling` and are not a weight. */
export const ropeFactorsName = 'rope_freqs.weight';

/** The name in the family's own Hugging Face checkpoint, or undefined for a tensor that has none here. */
export function toHfName(name: string, architecture: string): string | undefined {
  const top = topNames[name];
  if (top !== undefined) return top;
  const match = /^blk\.(\d+)\.([a-z_]+)\.(weight|bias)$/.exec(name);
  const part = match === null ? undefined : { ...llamaParts, ...architectureParts[architecture] }[match[2]!];
  return part === undefined ? undefined : `model.layers.${match![1]}.${part}.${match![3]}`;
}

/** Whether llama.cpp reorders this tensor's rows for adjacent-pair RoPE (architecture llama only). */
export function isRotated(hfName: string): boolean {
  return /\.self_attn\.[qk]_proj\.(weight|bias)$/.test(hfName);
}
