"""Writes test/fixtures/gguf/: blocks of every supported format with the floats the `gguf` package makes of them, and two tiny
models whose tensors transformers has loaded.

Usage: python gguf_fixtures.py STORIES_TOK512.bin OUTPUT_FOLDER   (see requirements.txt)
"""

import base64
import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM

Q = gguf.GGMLQuantizationType
rng = np.random.default_rng(20240611)


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def quantised_blocks(kind, count):
    """Blocks that a quantiser makes, where the package has one, otherwise random bits with sane scales."""
    size, width = gguf.GGML_QUANT_SIZES[kind]
    try:
        return quantize(rng.normal(size=(count, size)).astype(np.float32), kind).view(np.uint8).reshape(count, width)
    except NotImplementedError:
        return random_blocks(kind, count)


def random_blocks(kind, count):
    """Every bit pattern is a valid block; only the half-precision scales are kept finite."""
    _, width = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, size=(count, width), dtype=np.uint8)
    scales = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}
    for at in scales.get(kind, []):
        blocks[:, at : at + 2] = rng.normal(scale=0.1, size=(count, 1)).astype(np.float16).view(np.uint8)
    return blocks


def block_fixtures():
    out = []
    for kind in [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K]:
        small = gguf.GGML_QUANT_SIZES[kind][0] == 256
        if kind == Q.F32:
            blocks = rng.normal(size=(32, 1)).astype(np.float32).view(np.uint8)
        elif kind in (Q.F16, Q.BF16):
            blocks = quantize(rng.normal(size=(32, 1)).astype(np.float32), kind).view(np.uint8).reshape(32, 2)
        else:
            count = 3 if small else 8
            blocks = np.concatenate([quantised_blocks(kind, count), random_blocks(kind, count)])
        floats = dequantize(blocks, kind).astype(np.float32).reshape(-1)
        out.append({"name": kind.name, "type": int(kind), "blocks": text(blocks), "floats": text(floats)})
    return out


def stories_vocabulary(path):
    data, at, pieces = Path(path).read_bytes(), 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        pieces.append((data[at + 8 : at + 8 + length].decode(), score))
        at += 8 + length
    return [(name, s) for name, (_, s) in zip(["<unk>", "<s>", "</s>"], pieces)] + [
        (piece if i < 256 else piece.replace(" ", "\u2581"), s) for i, (piece, s) in enumerate(pieces[3:])
    ]


def add_tensor(writer, name, array, kind):
    if kind in (Q.F32, Q.F16):
        writer.add_tensor(name, array.astype(np.float16 if kind == Q.F16 else np.float32))
    else:
        writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)


def permute(rows, heads):
    """llama.cpp's reordering of query and key rows."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def tiny_model(path, arch, vocabulary_size, add_tokenizer):
    width, inner, layers, heads, key_heads, head = 64, 96, 2, 4, 2, 16
    llama = arch == "llama"
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0 if llama else 1000000.0)
    writer.add_vocab_size(vocabulary_size)
    if llama:
        writer.add_rope_dimension_count(head)
    add_tokenizer(writer)
    random = lambda *shape: rng.normal(scale=0.05, size=shape).astype(np.float32)
    rotate = permute if llama else (lambda rows, _: rows)
    add_tensor(writer, "token_embd.weight", random(vocabulary_size, width), Q.Q8_0)
    for i in range(layers):
        for name, rows, columns, kind in [
            ("attn_q", heads * head, width, Q.Q5_1),
            ("attn_k", key_heads * head, width, Q.Q4_1),
            ("attn_v", key_heads * head, width, Q.Q4_0),
            ("attn_output", width, heads * head, Q.Q5_0),
            ("ffn_gate", inner, width, Q.F16),
            ("ffn_up", inner, width, Q.Q8_0),
            ("ffn_down", width, inner, Q.Q4_0),
        ]:
            turns = {"attn_q": heads, "attn_k": key_heads}.get(name)
            weight = random(rows, columns)
            add_tensor(writer, f"blk.{i}.{name}.weight", rotate(weight, turns) if turns else weight, kind)
            if not llama and name in ("attn_q", "attn_k", "attn_v"):
                add_tensor(writer, f"blk.{i}.{name}.bias", random(rows), Q.F32)
        add_tensor(writer, f"blk.{i}.attn_norm.weight", 1 + random(width), Q.F32)
        add_tensor(writer, f"blk.{i}.ffn_norm.weight", 1 + random(width), Q.F32)
    add_tensor(writer, "output_norm.weight", 1 + random(width), Q.F32)
    if llama:
        add_tensor(writer, "output.weight", random(vocabulary_size, width), Q.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sentencepiece(vocabulary):
    def add(writer):
        writer.add_tokenizer_model("llama")
        writer.add_token_list([piece for piece, _ in vocabulary])
        writer.add_token_scores([score for _, score in vocabulary])
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(vocabulary) - 259))
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)

    return add


def byte_level(tokens, merges):
    def add(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list(tokens)
        writer.add_token_types([1] * (len(tokens) - 2) + [3, 3])
        writer.add_token_merges(merges)
        writer.add_eos_token_id(len(tokens) - 1)
        writer.add_bos_token_id(len(tokens) - 2)
        writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}")

    return add


def checksums(path):
    """Per tensor: shape, sum and a position-weighted sum, which notices any reordering."""
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    out = {}
    for name, value in model.state_dict().items():
        flat = value.double().flatten()
        weights = (torch.arange(flat.numel()) % 97 + 1).double()
        out[name] = [list(value.shape), float(flat.sum()), float((flat * weights).sum())]
    return out


def main():
    vocabulary_file, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    (target / "blocks.json").write_text(json.dumps(block_fixtures()) + "\n")
    vocabulary = stories_vocabulary(vocabulary_file)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["h e", "l l", "he ll", "hell o", "\u0120 w", "o r", "\u0120w or", "l d"]
    tokens = alphabet + [merge.replace(" ", "") for merge in merges] + ["<|im_start|>", "<|im_end|>"]
    tiny_model(target / "tiny-llama.gguf", "llama", len(vocabulary), sentencepiece(vocabulary))
    tiny_model(target / "tiny-qwen2.gguf", "qwen2", len(tokens), byte_level(tokens, merges))
    expected = {name: checksums(target / f"{name}.gguf") for name in ("tiny-llama", "tiny-qwen2")}
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
