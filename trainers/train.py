"""One recipe to the end: dataset there, rows prepared, recipe frozen and checked, trained, merged, manifest written."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from store.environment import git_state, tool_version
from store.errors import UserError
from store.models import resolve
from store.registry import dataset_file, entries
from trainers import llamafactory, runs
from trainers.prepare import Prepared, prepare
from trainers.recipe import Recipe, load, names

STAND_IN = "models/tiny-qwen2"
BACKENDS = ("llamafactory",)


@dataclass(frozen=True)
class Options:
    """What a user may say about one run besides the recipe: ``RUN= FRESH= GPUS= FROM= SET= DATASET=``."""

    backend: str = "llamafactory"
    run: str | None = None
    fresh: bool = False
    gpus: int | None = None
    start_from: str | None = None
    overrides: dict[str, Any] | None = None
    dataset: str | None = None
    root: Path = runs.RUNS


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
    kept = [name for name in wanted if not _empty(dataset_file(folder, name))]
    if kept == wanted:
        return recipe
    say(f"{', '.join(sorted(set(wanted) - set(kept)))}: 0 rows, so no evaluation on it during training")
    return replace(recipe, keys={**recipe.keys, "eval_dataset": ",".join(kept) or None})


def _empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def provide_datasets(recipe: Recipe) -> None:
    """Fetch and convert what the recipe names and the disk lacks; the fetcher shows the licence, or the line to run."""
    folder = recipe.get("dataset_dir", "datasets")
    known = entries(folder)
    for name in names(recipe.keys["dataset"]) + names(recipe.get("eval_dataset")):
        if name in known and dataset_file(folder, name).is_file():
            continue
        stem = name.removesuffix("_val").removesuffix("_test")
        say(f"dataset {name}: not there yet")
        done = subprocess.run([sys.executable, "-m", "converters", "fetch", stem, "--dataset-dir", str(folder)])
        if done.returncode:
            raise UserError(
                f"recipe {recipe.name}: dataset {name!r} is not there (see the line above); DATASET=<name> takes another"
            )


def provide_model(recipe: Recipe, options: Options) -> tuple[Recipe, dict[str, Any] | None]:
    """The model a run starts from: made (stand-in), trained first (a dpo recipe's lora run), or as named. → (recipe, parent)."""
    model = recipe.keys["model_name_or_path"]
    if options.start_from:
        parent = parent_run(options.start_from, options)
        return replace(recipe, keys={**recipe.keys, "model_name_or_path": parent["model_path"]}), parent
    if model == STAND_IN and not (Path(model) / "config.json").is_file():
        from trainers.tiny_model import build

        say(f"model {model}: making the stand-in ({build(model, 'datasets/samples')} parameters)")
    parts = Path(model).parts
    if parts[:1] == ("runs",) and len(parts) == 4 and parts[3] in ("merged", "train"):
        parent = parent_run(parts[1], replace(options, backend=parts[2]))
        return replace(recipe, keys={**recipe.keys, "model_name_or_path": parent["model_path"]}), parent
    return recipe, None


def tokenizer_of(recipe: Recipe) -> Recipe:
    """The recipe with a model whose tokenizer is at hand: a run not trained yet has the tokenizer of what it starts from."""
    model = recipe.keys["model_name_or_path"]
    while model.startswith("runs/") and not (Path(model) / "config.json").is_file():
        model = load(Path(model).parts[1]).keys["model_name_or_path"]
    if model == STAND_IN:
        return provide_model(replace(recipe, keys={**recipe.keys, "model_name_or_path": model}), Options())[0]
    return replace(recipe, keys={**recipe.keys, "model_name_or_path": model})


def parent_run(name: str, options: Options) -> dict[str, Any]:
    """Manifest of the run a recipe starts from (``model_path`` added); a recipe's missing run is trained first.

    ``name`` is a recipe or a model folder.
    """
    if (Path(name) / "config.json").is_file():
        return {"recipe": name, "model_path": name, "data_hash": None}
    parent = runs.run_for(name, options.backend, root=options.root)
    manifest = parent.read_manifest()
    if manifest is None:
        say(f"{name}: its run is not complete, and this one starts from it: training it first")
        manifest = train(name, Options(backend=options.backend, gpus=options.gpus, root=options.root))
    return {**manifest, "model_path": str(parent.folder / manifest["model"])}


def train(name: str, options: Options) -> dict[str, Any]:
    """Train a recipe, or continue, or find it done; returns its manifest.

    Raises UserError for everything the user can mend; nothing of an older run is ever deleted.
    """
    if options.backend not in BACKENDS:
        raise UserError(f"BACKEND={options.backend!r}; there is {', '.join(BACKENDS)}")
    started = time.time()
    recipe = with_dataset(load(name, options.overrides), options.dataset)
    run = runs.run_for(name, options.backend, options.run, options.root)
    recipe, parent = provide_model(recipe, options)
    provide_datasets(recipe)
    recipe = without_empty_evaluation(recipe)
    prepared = prepare(recipe)
    report_rows(recipe, prepared)
    with runs.hold(run) as lock:
        if options.fresh and (old := runs.start_over(run)):
            say(f"FRESH: the old run is now {old}")
        return _train(run, recipe, options, prepared, parent, lock, started)


def _train(
    run: runs.Run,
    recipe: Recipe,
    options: Options,
    prepared: Prepared,
    parent: dict[str, Any] | None,
    lock: int,
    started: float,
) -> dict[str, Any]:
    name = recipe.name
    runs.freeze(run, recipe, prepared.data_hash)
    manifest = run.read_manifest()
    if manifest:
        say(
            f"{name}: complete since {manifest['finished']} ({run.folder}); FRESH=1 trains it again, RUN=<name> beside it"
        )
        return manifest
    llamafactory.write_native(recipe, run, prepared)
    if complaint := llamafactory.check([run.native]).get(str(run.native)):
        run.recipe.unlink()  # nothing was trained: a mended recipe must not be refused as changed
        raise UserError(f"recipes/{name}.yaml: {complaint}")
    if not finished(run):
        clear_for_resume(run)
        llamafactory.train(run, recipe, options.gpus, lock)
    if recipe.verb != "sft" and not list(run.merged.glob("*.safetensors")):
        say(f"{name}: merging the adapter into its base")
        llamafactory.merge(run, recipe)
    manifest = describe(run, recipe, options, prepared, parent, started)
    runs.write_manifest(run, manifest)
    say(
        f"{name}: done in {manifest['wall_s']:.0f} s; weights {run.folder / manifest['model']}; evidence {run.manifest}"
    )
    return manifest


def finished(run: runs.Run) -> bool:
    """Whether the trainer reached its last step and saved its results (it writes ``train_results.json`` last)."""
    return (run.train / "train_results.json").is_file() and (run.train / "trainer_state.json").is_file()


def clear_for_resume(run: runs.Run) -> None:
    """Set broken checkpoints aside, say from where it continues; a run killed before its first checkpoint starts again."""
    whole, broken = runs.checkpoints(run)
    for path in broken:
        say(f"{path.name} was cut off while it was written; set aside as {runs.set_aside(path, 'broken').name}")
    if whole:
        say(f"continuing from {whole[-1]}")
    elif run.train.exists() and any(run.train.iterdir()):
        say(
            f"no complete checkpoint yet: starting again (what was there is {runs.set_aside(run.train, 'before').name})"
        )


def report_rows(recipe: Recipe, prepared: Prepared) -> None:
    """One line on the rows: kept, dropped by reason, tokens that carry loss."""
    counts = prepared.counts
    dropped = {
        reason: counts[reason]
        for reason in ("over-long", "control-marker", "no-answer", "nothing-to-train")
        if counts.get(reason)
    }
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


def describe(
    run: runs.Run, recipe: Recipe, options: Options, prepared: Prepared, parent: dict[str, Any] | None, started: float
) -> dict[str, Any]:
    """The manifest: everything needed to say what a number was made from."""
    base = recipe.keys["model_name_or_path"]
    state = orjson.loads((run.train / "trainer_state.json").read_bytes())
    return {
        "recipe": recipe.name,
        "backend": options.backend,
        "method": recipe.verb,
        "status": "complete",
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "wall_s": round(time.time() - started, 1),
        "model": "train" if recipe.verb == "sft" else "merged",
        "adapter": None if recipe.verb == "sft" else "train",
        "base_model": base,
        "base_local": resolve(base) if Path(resolve(base)).is_dir() else None,
        "from": {"recipe": parent["recipe"], "data_hash": parent["data_hash"]} if parent else None,
        "template": recipe.keys["template"],
        "enable_thinking": recipe.get("enable_thinking"),
        "dataset": {"names": names(recipe.keys["dataset"]), "sha256": prepared.datasets},
        "data_hash": prepared.data_hash,
        "template_hash": prepared.template_hash,
        "rows": prepared.counts,
        "overrides": recipe.overrides,
        "seed": recipe.get("seed", 42),
        "steps": state["global_step"],
        "tool_version": tool_version(),
        "git": git_state(),
        "versions": llamafactory.versions(),
        "hardware": hardware(),
        "gpus": options.gpus,
    }


def hardware() -> dict[str, Any]:
    """Processor, cores, memory, GPUs by name."""
    import os

    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    try:
        smi = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True
        )
        cards = smi.stdout.strip().splitlines() if smi.returncode == 0 else []
    except FileNotFoundError:
        cards = []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "gpus": cards,
        "system": platform.platform(),
    }
