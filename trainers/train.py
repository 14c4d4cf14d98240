"""One recipe to the end: dataset there, rows prepared, recipe frozen and checked, trained, merged, manifest written."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from store.errors import UserError
from store.hashing import file_sha256
from trainers import llamafactory, runs
from trainers.manifest import describe, devices
from trainers.prepare import Prepared, prepare
from trainers.provide import make_stand_in, provide_datasets, report_rows, say, with_dataset, without_empty_evaluation
from trainers.recipe import Recipe, differences, load, read_yaml

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
    as_it_is: bool = False  # a complete run is taken whatever SET=, DATASET= or FROM= made it
    root: Path = runs.RUNS


def provide_model(recipe: Recipe, options: Options) -> tuple[Recipe, dict[str, Any] | None]:
    """The model a run starts from: made (stand-in), trained first (a dpo recipe's lora run), or as named. → (recipe, parent)."""
    model = recipe.keys["model_name_or_path"]
    if options.start_from:
        parent = parent_run(options.start_from, options)
        return replace(recipe, keys={**recipe.keys, "model_name_or_path": parent["model_path"]}), parent
    make_stand_in(model)
    parts = Path(model).parts
    if parts[:1] == ("runs",) and len(parts) == 4 and parts[3] in ("merged", "train"):
        parent = parent_run(parts[1], replace(options, backend=parts[2]))
        return replace(recipe, keys={**recipe.keys, "model_name_or_path": parent["model_path"]}), parent
    return recipe, None


def parent_run(name: str, options: Options) -> dict[str, Any]:
    """Manifest of the run a recipe starts from (``model_path`` added); a recipe's missing run is trained first.

    ``name`` is a recipe or a model folder.
    """
    if (Path(name) / "config.json").is_file():
        weights = sorted(Path(name).glob("*.safetensors"))
        hashed = hashlib.sha256("".join(file_sha256(path) for path in weights).encode()).hexdigest()[:16]
        return {"recipe": name, "model_path": name, "data_hash": None, "finished": f"weights {hashed}"}
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
    if options.as_it_is and (manifest := run.read_manifest()):
        say(f"{name}: complete since {manifest['finished']} ({run.folder})")
        return manifest
    if run.recipe.is_file() and not options.fresh and not options.start_from:
        # before a missing parent is trained for hours: a run that started from another model is refused at once
        frozen = read_yaml(run.recipe)
        runs.refuse_if_changed(run, {**frozen, "model_name_or_path": recipe.keys["model_name_or_path"]})
    recipe, parent = provide_model(recipe, options)
    provide_datasets(recipe)
    recipe = without_empty_evaluation(recipe)
    prepared = prepare(recipe)
    report_rows(recipe, prepared)
    decided_by = {"data_hash": prepared.data_hash, "devices": devices(options.gpus)}
    if parent:
        decided_by["starts_from"] = f"{parent['recipe']} of {parent['finished']}"
    if options.fresh or not run.recipe.is_file() or differences(read_yaml(run.recipe), {**recipe.keys, **decided_by}):
        # a misspelt key is called that, before anything is renamed or compared
        llamafactory.refuse_unacceptable(recipe, run, prepared)
    with runs.hold(run) as lock:
        if options.fresh and (old := runs.start_over(run)):
            say(f"FRESH: the old run is now {old}")
        return _train(run, recipe, options, prepared, decided_by, parent, lock, started)


def _train(
    run: runs.Run,
    recipe: Recipe,
    options: Options,
    prepared: Prepared,
    decided_by: dict[str, Any],
    parent: dict[str, Any] | None,
    lock: int,
    started: float,
) -> dict[str, Any]:
    name = recipe.name
    runs.freeze(run, recipe, decided_by)
    manifest = run.read_manifest()
    if manifest:
        say(
            f"{name}: complete since {manifest['finished']} ({run.folder}); FRESH=1 trains it again, RUN=<name> beside it"
        )
        return manifest
    llamafactory.write_native(recipe, run, prepared)
    if not finished(run):
        clear_for_resume(run)
        llamafactory.train(run, recipe, options.gpus, lock)
    if recipe.verb != "sft" and not list(run.merged.glob("*.safetensors")):
        say(f"{name}: merging the adapter into its base")
        llamafactory.merge(run, recipe)
    manifest = describe(run, recipe, options.backend, options.gpus, prepared, parent, started)
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
