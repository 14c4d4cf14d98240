"""What a run needs before it starts: its rows, its stand-in model, a tokenizer; each missing piece is made, fetched or named."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from store.errors import UserError
from store.registry import dataset_file, entries
from trainers.prepare import Prepared
from trainers.recipe import Recipe, load, names

STAND_IN = "models/tiny-qwen2"
DROPPED = ("over-long", "control-marker", "no-answer", "nothing-to-train")


def say(text: str) -> None:
    """A line to the user."""
    print(text, flush=True)


def with_dataset(recipe: Recipe, dataset: str | None) -> Recipe:
    """DATASET= replaces ``dataset``; its ``<name>_val`` becomes the evaluation set where it is registered, else there is none."""
    if not dataset:
        return recipe
    held_out = [
        f"{name}_val" for name in names(dataset) if f"{name}_val" in entries(recipe.get("dataset_dir", "datasets"))
    ]
    changes: dict[str, Any] = {"dataset": dataset}
    if recipe.get("eval_dataset"):
        changes["eval_dataset"] = ",".join(held_out) or None
        if not held_out:
            say(f"dataset {dataset}: no {dataset}_val is registered, so no evaluation during training")
    return replace(recipe, keys={**recipe.keys, **changes}, overrides={**recipe.overrides, **changes})


def without_empty_evaluation(recipe: Recipe) -> Recipe:
    """Drop evaluation sets whose file has no row (a small sample's 1%), and say so."""
    wanted = names(recipe.get("eval_dataset"))
    folder = recipe.get("dataset_dir", "datasets")
    kept = [name for name in wanted if not _empty(folder, name)]
    if kept == wanted:
        return recipe
    say(f"{', '.join(sorted(set(wanted) - set(kept)))}: 0 rows, so no evaluation on it during training")
    return replace(recipe, keys={**recipe.keys, "eval_dataset": ",".join(kept) or None})


def _empty(folder: str, name: str) -> bool:
    """No row: an empty file, or a split that the conversion did not write."""
    path = dataset_file(folder, name) if name in entries(folder) else Path("/nonexistent")
    return not path.is_file() or path.stat().st_size == 0


def provide_datasets(recipe: Recipe) -> None:
    """Fetch and convert what the recipe names and the disk lacks; the fetcher shows the licence, or the line to run."""
    folder = recipe.get("dataset_dir", "datasets")
    known = entries(folder)
    for name in names(recipe.keys["dataset"]) + names(recipe.get("eval_dataset")):
        stem = name.removesuffix("_val").removesuffix("_test")
        if any(one in known and dataset_file(folder, one).is_file() for one in (name, stem)):
            continue  # a set that is there is never fetched again; a split it lacks is an empty one
        say(f"dataset {name}: not there yet")
        done = subprocess.run([sys.executable, "-m", "converters", "fetch", stem, "--dataset-dir", str(folder)])
        if done.returncode:
            raise UserError(
                f"recipe {recipe.name}: dataset {name!r} is not there (see the line above); DATASET=<name> takes another"
            )


def make_stand_in(model: str) -> None:
    """Build the stand-in when ``model`` is it and it is not there."""
    if model == STAND_IN and not (Path(model) / "config.json").is_file():
        from trainers.tiny_model import build

        say(f"model {model}: making the stand-in ({build(model, 'datasets/samples')} parameters)")


def tokenizer_of(recipe: Recipe) -> Recipe:
    """The recipe with a model whose tokenizer is at hand: a run not trained yet has the tokenizer of what it starts from."""
    model = recipe.keys["model_name_or_path"]
    while model.startswith("runs/") and not (Path(model) / "config.json").is_file():
        model = load(Path(model).parts[1]).keys["model_name_or_path"]
    make_stand_in(model)
    return replace(recipe, keys={**recipe.keys, "model_name_or_path": model})


def report_rows(recipe: Recipe, prepared: Prepared) -> None:
    """One line on the rows: kept, dropped by reason, tokens that carry loss."""
    counts = prepared.counts
    dropped = {reason: counts[reason] for reason in DROPPED if counts.get(reason)}
    share = f", {counts['packs']} packs" if "packs" in counts else ""
    say(
        f"{recipe.name}: {counts['examples']} examples → {counts['kept']} rows{share}; "
        f"dropped {dropped or 'none'} (cutoff_len {recipe.keys['cutoff_len']}); "
        f"{counts['trained_tokens']} of {counts['tokens']} tokens carry loss; {prepared.folder}"
    )
    if counts.get("eval_dropped"):
        say(
            f"{recipe.name}: {counts['eval_dropped']} evaluation rows dropped, listed in {prepared.folder}/dropped.jsonl"
        )
