"""Runs inside LLaMA-Factory's environment: its own parser over native files, and what that parser does not look at.

    python trainers/llamafactory_check.py FILE…   →  the last line is JSON {file: complaint}, {} when all are accepted

Imports nothing of this project: that environment does not have it.
"""

import contextlib
import dataclasses
import difflib
import io
import json
import pathlib
import sys
from collections.abc import Iterable

from llamafactory.data.template import TEMPLATES
from llamafactory.hparams import DataArguments, FinetuningArguments, GeneratingArguments, ModelArguments, get_train_args
from llamafactory.hparams.training_args import TrainingArguments
from omegaconf import OmegaConf

ARGUMENTS = (ModelArguments, DataArguments, TrainingArguments, FinetuningArguments, GeneratingArguments)
KNOWN = {field.name: field.type for part in ARGUMENTS for field in dataclasses.fields(part)}
# need a CUDA device or a launcher before they can be parsed at all
DEVICE = ("deepspeed", "enable_liger_kernel", "quantization_bit", "use_unsloth", "bf16", "fp16", "pure_bf16", "tf32")
NUMBERS = (
    "learning_rate",
    "num_train_epochs",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "pref_beta",
    "lora_dropout",
)


def nearest(word: object, words: Iterable[str]) -> str:
    """`` (did you mean x?)`` or nothing."""
    found = difflib.get_close_matches(str(word), [str(entry) for entry in words], n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def complaint(path: str) -> str | None:
    """What is wrong with one native file, in one line; None when it would be accepted."""
    keys = OmegaConf.to_container(OmegaConf.load(path))
    for key in keys:
        if key not in KNOWN:
            return f"key {key!r} is not known to LLaMA-Factory 0.9.5{nearest(key, KNOWN)}"
    for key in NUMBERS:
        if key in keys and (not isinstance(keys[key], int | float) or isinstance(keys[key], bool)):
            return f"{key}: {keys[key]!r} is not a number"
    if keys.get("template") not in TEMPLATES:
        return f"template {keys.get('template')!r} is not known{nearest(keys.get('template'), TEMPLATES)}"
    if isinstance(keys.get("deepspeed"), str):
        try:
            json.loads(pathlib.Path(keys["deepspeed"]).read_text())
        except (OSError, ValueError) as error:
            return f"deepspeed: {keys['deepspeed']}: {error}"
    if keys.get("stage") == "dpo" and keys.get("adapter_name_or_path"):
        return "adapter_name_or_path in a DPO recipe: the reference policy would silently be the base model; start from merged weights"
    cpu = {key: value for key, value in keys.items() if key not in DEVICE}
    cpu.update(use_cpu=True, report_to="none", output_dir="/nonexistent/check")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            get_train_args(cpu)
    except (ValueError, TypeError, ImportError) as error:
        return str(error).splitlines()[0]
    return None


if __name__ == "__main__":
    results = {path: text for path in sys.argv[1:] if (text := complaint(path))}
    print(json.dumps(results))
