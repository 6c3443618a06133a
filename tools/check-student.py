"""Proves that transformers loads a student folder unchanged and computes what our own graphs compute.

Usage: python check-student.py STUDENT SCORES.json [RECORD.json]   (see reference/requirements.txt)

SCORES.json comes from `node dist/tools/score-student.js STUDENT TEXT-FILE SCORES.json`. Prints a JSON record, and writes it to
RECORD.json when given; exits with 1 when a key is missing or left over, a token id differs or a log-probability is off by more
than 1e-3.
"""

import json
import platform
import sys
from pathlib import Path

import safetensors
import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

BOUND = 1e-3


def compare(model, tokenizer, text, worst):
    ids = tokenizer(text["text"])["input_ids"]
    worst["same_ids"] = worst["same_ids"] and ids == text["ids"]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([text["ids"]])).logits[0].float(), dim=-1)
    following = logprobs[:-1].gather(1, torch.tensor(text["ids"][1:])[:, None])[:, 0]
    top = logprobs.gather(1, torch.tensor(text["topIds"]))
    differences = [(following - torch.tensor(text["nextLogprobs"])).abs(), (top - torch.tensor(text["topLogprobs"])).abs()]
    worst["max_difference"] = max(worst["max_difference"], *(float(d.max()) for d in differences))
    worst["same_top1"] += int((logprobs.argmax(-1) == torch.tensor(text["topIds"])[:, 0]).sum())
    worst["nll"] -= float(following.sum())
    worst["tokens"] += len(text["ids"])
    worst["targets"] += len(following)


def main():
    folder, scores = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    keys = ("missing_keys", "unexpected_keys", "mismatched_keys")
    problems = {key: sorted(map(str, info[key])) for key in keys if info[key]}
    worst = {"same_ids": True, "max_difference": 0.0, "same_top1": 0, "nll": 0.0, "tokens": 0, "targets": 0}
    for text in scores["texts"]:
        compare(model.eval(), tokenizer, text, worst)
    ours = -sum(sum(text["nextLogprobs"]) for text in scores["texts"]) / worst["targets"]
    record = {
        "name": "transformers-load",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "safetensors": safetensors.__version__,
        },
        "model": {"class": type(model).__name__, "parameters": model.num_parameters(), "key_problems": problems},
        "tokens": worst["tokens"],
        "targets": worst["targets"],
        "same_token_ids": worst["same_ids"],
        "same_top1": worst["same_top1"] / worst["tokens"],
        "max_logprob_difference": worst["max_difference"],
        "nll": {"transformers": worst["nll"] / worst["targets"], "forward_graph": ours, "training_graph": scores["trainingNll"]},
        "bound": BOUND,
    }
    record["passed"] = not problems and worst["same_ids"] and worst["max_difference"] <= BOUND
    print(json.dumps(record, indent=2))
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(0 if record["passed"] else 1)


main()
