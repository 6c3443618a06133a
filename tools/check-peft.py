"""Proves that PEFT loads the adapters that distillock wrote unchanged and computes what our own graphs compute, and that it writes them back.

Usage: python check-peft.py ADAPTER SCORES.json [RECORD.json]   (see reference/requirements.txt, and peft)

SCORES.json comes from `node dist/tools/score-student.js ADAPTER TEXT-FILE SCORES.json`, which merges the adapters into their base. Prints a
JSON record, and writes it to RECORD.json when given; exits with 1 when PEFT misses or leaves over a tensor, a value differs after saving, a
token id differs, a log-probability is off by more than 1e-3, or the adapters turn out to do nothing.
"""

import json
import platform
import sys
import tempfile
import warnings
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

BOUND = 1e-3


def logprobs_of(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)


def difference(model, texts):
    worst = 0.0
    for text in texts:
        logprobs = logprobs_of(model, text["ids"])
        following = logprobs[:-1].gather(1, torch.tensor(text["ids"][1:])[:, None])[:, 0]
        top = logprobs.gather(1, torch.tensor(text["topIds"]))
        pairs = ((following, text["nextLogprobs"]), (top, text["topLogprobs"]))
        worst = max(worst, *(float((found - torch.tensor(ours)).abs().max()) for found, ours in pairs))
    return worst


def main():
    folder, texts = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())["texts"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    same_ids = all(tokenizer(text["text"])["input_ids"] == text["ids"] for text in texts)
    base = AutoModelForCausalLM.from_pretrained(PeftConfig.from_pretrained(folder).base_model_name_or_path, dtype=torch.float32)
    bare = difference(base.eval(), texts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base, folder).eval()
    complaints = [str(w.message) for w in caught if "key" in str(w.message)]
    ours = load_file(str(Path(folder) / "adapter_model.safetensors"))
    held = get_peft_model_state_dict(model)
    same_tensors = held.keys() == ours.keys() and all(torch.equal(held[name], ours[name]) for name in ours)
    with tempfile.TemporaryDirectory() as again:
        model.save_pretrained(again)
        saved = load_file(str(Path(again) / "adapter_model.safetensors"))
    same_saved = saved.keys() == ours.keys() and all(torch.equal(saved[name], ours[name]) for name in ours)
    adapted = difference(model, texts)
    merged = difference(model.merge_and_unload(), texts)
    record = {
        "name": "peft-load",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "tensors": len(ours),
        "tokens": sum(len(text["ids"]) for text in texts),
        "complaints": complaints,
        "same_tensors": same_tensors,
        "same_after_saving": same_saved,
        "same_token_ids": same_ids,
        "max_logprob_difference": {"adapted": adapted, "merged": merged, "base_alone": bare},
        "bound": BOUND,
    }
    record["passed"] = (
        not complaints and same_tensors and same_saved and same_ids and max(adapted, merged) <= BOUND and bare > 10 * BOUND
    )
    print(json.dumps(record, indent=2))
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(0 if record["passed"] else 1)


main()
