"""Writes test/fixtures/gguf/tiny-{qwen3,gemma3,phi3}.gguf: the checkpoints of test/fixtures/families as llama.cpp's conversion would,
with names by the `gguf` package's own table, float32, and a vocabulary of bytes. The test compares both ways in.

Usage: python tools/reference/gguf_families.py   (see requirements.txt; after families.py)
"""

import json
from pathlib import Path

import gguf
from safetensors.numpy import load_file

ARCHITECTURES = {"qwen3": gguf.MODEL_ARCH.QWEN3, "gemma3_text": gguf.MODEL_ARCH.GEMMA3, "phi3": gguf.MODEL_ARCH.PHI3}

for family, arch in ARCHITECTURES.items():
    source = Path("test/fixtures/families") / family
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    name = gguf.MODEL_ARCH_NAMES[arch]
    blocks, heads = config["num_hidden_layers"], config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    writer = gguf.GGUFWriter(Path("test/fixtures/gguf") / f"tiny-{name}.gguf", name)
    writer.add_block_count(blocks)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config["rope_parameters"]
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if name == "gemma3":
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        rope = rope["full_attention"]
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_tokenizer_model("llama")
    size = config["vocab_size"]
    writer.add_token_list(["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(size - 3)])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([2, 3, 3] + [6] * (size - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(arch, blocks)
    for tensor, values in tensors.items():
        # Gemma's checkpoints leave 1 out of their gains; llama.cpp's conversion adds it.
        gain = name == "gemma3" and tensor.endswith("norm.weight")
        writer.add_tensor(names.get_name(tensor, (".weight", ".bias")), values + 1 if gain else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(name, len(tensors))
