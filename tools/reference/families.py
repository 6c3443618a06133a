"""Writes tiny random checkpoints of each supported family, with logits by transformers, to test/fixtures/families/.

Usage: python tools/reference/families.py [FAMILY ...]   (needs torch and transformers; see requirements.txt)
Each folder is a Hugging Face directory without tokenizer, plus reference.json: ids [2][24] and logits of the last position and
of position 11, float32. The test runs them through both of our graphs.
"""
import json
import os
import sys

import torch
import transformers
from transformers import (
    Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
    MistralForCausalLM, Olmo2Config, Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM,
)

shape = dict(
    vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)
families = {
    "llama": (LlamaForCausalLM, LlamaConfig(
        **shape, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True,
        tie_word_embeddings=False, rope_theta=500000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=16))),
    "mistral": (MistralForCausalLM, MistralConfig(
        **shape, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-6, sliding_window=7, tie_word_embeddings=False)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(
        **shape, num_key_value_heads=4, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_theta=1000000.0)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(
        **shape, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "gemma3_text": (Gemma3ForCausalLM, Gemma3TextConfig(
        **shape, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6, query_pre_attn_scalar=24, sliding_window=7,
        layer_types=["sliding_attention", "full_attention"], attn_logit_softcapping=5.0, final_logit_softcapping=8.0,
        rope_parameters=dict(
            sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1000000.0)))),
    "phi3": (Phi3ForCausalLM, Phi3Config(
        **shape, num_key_value_heads=2, rms_norm_eps=1e-5, sliding_window=9, tie_word_embeddings=False)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(
        vocab_size=61, n_embd=32, n_inner=48, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config(
        **shape, num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=500000.0))),
}

chosen = sys.argv[1:] or list(families)
for name in chosen:
    model_class, config = families[name]
    torch.manual_seed(7)
    config._attn_implementation = "eager"
    model = model_class(config).eval().float()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            # Spread out, so that every tensor matters in the logits.
            scale = 0.3 if parameter.dim() == 2 else 0.2
            gain = "norm" in parameter_name or (".ln_" in parameter_name and parameter_name.endswith("weight"))
            parameter.copy_(torch.randn_like(parameter) * scale + (1.0 if gain else 0.0))
        ids = torch.randint(0, shape["vocab_size"], (2, 24))
        # Gemma 3's attention computes a soft cap and its model does not hand `attn_logit_softcapping` on: do it here.
        cap = getattr(config, "attn_logit_softcapping", None)
        logits = model(ids, **({} if cap is None else {"softcap": cap})).logits
    folder = os.path.join("test", "fixtures", "families", name)
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    for extra in ("generation_config.json",):
        path = os.path.join(folder, extra)
        if os.path.exists(path):
            os.remove(path)
    reference = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "ids": ids.tolist(),
        "logits": {str(p): [[round(x, 6) for x in row] for row in logits[:, p].tolist()] for p in (11, 23)},
    }
    with open(os.path.join(folder, "reference.json"), "w") as out:
        json.dump(reference, out)
        out.write("\n")
    print(name, sum(p.numel() for p in model.parameters()), os.listdir(folder))
