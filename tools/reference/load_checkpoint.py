"""Proves that transformers loads a checkpoint folder unchanged: every weight found, none left over, tokenizer and generation work.

Usage: python load_checkpoint.py FOLDER [PROMPT]   (see requirements.txt; exits with 1 when a key is missing or unexpected)
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

folder = sys.argv[1]
prompt = sys.argv[2] if len(sys.argv) > 2 else "Once upon a time"
model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
problems = {key: sorted(map(str, info[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[key]}
print(f"transformers {__version__}: {type(model).__name__}, {model.num_parameters()} parameters, {model.dtype}", problems or "all keys match")
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer(prompt, return_tensors="pt")
with torch.no_grad():
    tokens = model.generate(**{key: inputs[key] for key in ("input_ids", "attention_mask")}, max_new_tokens=20, do_sample=False)
print(repr(tokenizer.decode(tokens[0], skip_special_tokens=True)))
sys.exit(1 if problems else 0)
