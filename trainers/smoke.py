"""Three steps of any recipe on a CPU with the stand-in model: shows that it starts, trains, and writes what it should."""

from __future__ import annotations

import shutil
from typing import Any

from store.errors import UserError
from store.registry import dataset_file, entries
from trainers.llamafactory import cpu_overrides
from trainers.provide import STAND_IN, say
from trainers.recipe import load
from trainers.runs import RUNS
from trainers.train import Options, train

SAMPLES = {"sft": "soap_sample", "lora": "soap_sample", "dpo": "preference_sample"}


def smoke(name: str, backend: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Train ``name`` for 3 steps under ``runs/smoke/``, everything that needs a GPU off; what was changed is printed."""
    recipe = load(name)
    sample = SAMPLES[recipe.verb]
    if sample not in entries("datasets") or not dataset_file("datasets", sample).is_file():
        raise UserError(f"smoke: dataset {sample!r} is not there; make samples converts the bundled ones")
    changes: dict[str, Any] = {
        **cpu_overrides(recipe),
        "model_name_or_path": STAND_IN,
        "dataset_dir": "datasets",
        "dataset": sample,
        "eval_dataset": None,
        "val_size": None,
        "eval_strategy": "no",
        "load_best_model_at_end": None,
        "max_samples": 8,
        "cutoff_len": min(recipe.keys["cutoff_len"], 1024),
        "max_steps": 3,
        "save_steps": 3,
        "logging_steps": 1,
        "per_device_train_batch_size": min(recipe.get("per_device_train_batch_size", 1), 2),
        "gradient_accumulation_steps": 1,
        "warmup_steps": 0,
        "warmup_ratio": None,
        **overrides,
    }
    shutil.rmtree(RUNS / "smoke" / name, ignore_errors=True)
    shown = {key: value for key, value in changes.items() if recipe.get(key) != value}
    say(f"smoke {name}: 3 steps on a CPU; changed for it: {shown}")
    return train(name, Options(backend=backend, overrides=changes, root=RUNS / "smoke"))
