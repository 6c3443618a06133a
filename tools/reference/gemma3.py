"""Writes what transformers/PyTorch say about Gemma 3 270M (Q4_K_M GGUF), for tools/check-gemma3.ts.

Usage: python gemma3.py MODEL.gguf OUTPUT.json   (tools/fetch-gemma3.sh fetches the model; see requirements.txt)
Token ids come from the `tokenizers` library by transformers' own import of the file. Log-probabilities are float32 over the same
dequantised weights, eager attention.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = "Photosynthesis is the process by which"
TEXTS = [
    "Hello, world!",
    "The year 2024, 12345 apples, 3.14159 and 1,000,000.",
    "  leading, two  spaces and a tab\tthen\n\nlines\n",
    "I'm you're he's they've we'll I'd don't CAN'T",
    "naïve café, crème brûlée, Zażółć gęślą jaźń.",
    "Привет, как дела? 你好，世界。こんにちは 안녕하세요 مرحبا",
    "emoji 🙂 👩‍👩‍👧‍👦 and ½ cup, x² + y³ = z⁴",
    "def f(x: int) -> int:\n    if x > 0:\n        return x * f(x - 1)\n    return 1\n",
    "The Amazon rainforest covers much of the Amazon basin of South America. The basin is home to many rivers, and the majority "
    "of the forest is contained within Brazil, with 60% of the rainforest, followed by Peru and Colombia. More than one third of "
    "all known species in the world live there, and new ones are described every year.",
]

source, target = Path(sys.argv[1]), Path(sys.argv[2])
options = {"gguf_file": source.name}
tokenizer = AutoTokenizer.from_pretrained(source.parent, **options)
model = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, attn_implementation="eager", **options).eval()


def encode(text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.bos_token_id, *ids]


with torch.no_grad():
    prompt = encode(PROMPT)
    generated = model.generate(torch.tensor([prompt]), max_new_tokens=48, do_sample=False)[0].tolist()
    # Longer than the window of 512 tokens, so that both kinds of block and both bases are seen.
    long = (encode(TEXTS[-1]) + [i for text in TEXTS for i in encode(text)[1:]] * 4)[:700]
    logits = model(torch.tensor([long])).logits[0].float()
    positions = list(range(0, len(long), 7)) + [len(long) - 1]
    logprobs = torch.log_softmax(logits[positions], dim=-1)
    top = logprobs.topk(32)

reference = {
    "transformers": transformers.__version__,
    "torch": torch.__version__,
    "prompt": PROMPT,
    "prompt_ids": prompt,
    "generated_ids": generated[len(prompt):],
    "generated_text": tokenizer.decode(generated[len(prompt):]),
    "texts": [{"text": text, "ids": encode(text)} for text in TEXTS],
    "long_ids": long,
    "positions": positions,
    "top_ids": top.indices.tolist(),
    "top_logprobs": top.values.tolist(),
}
target.write_text(json.dumps(reference) + "\n")
print(reference["generated_text"])
