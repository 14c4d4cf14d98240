"""The run folder `runs/<recipe>/<backend>/[RUN/]`: what lies in it, and whether an old one may be continued."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from store.errors import UserError
from store.models import safetensors_whole
from store.writing import atomic_json, atomic_write
from trainers.recipe import Recipe, differences, dump, read_yaml

RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """One run's folder and the names in it."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The frozen recipe: overrides applied, the rows' hash added."""
        return self.folder / "recipe.yaml"

    @property
    def native(self) -> Path:
        """What the trainer was given."""
        return self.folder / "llamafactory.yaml"

    @property
    def manifest(self) -> Path:
        """Written last: a run without it is not complete."""
        return self.folder / "manifest.json"

    @property
    def train(self) -> Path:
        """The trainer's output folder: checkpoints, state, plots, and the weights of a full run or the adapter."""
        return self.folder / "train"

    @property
    def merged(self) -> Path:
        """Base and adapter as one model (lora, dpo)."""
        return self.folder / "merged"

    def read_manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while the run is not complete."""
        return orjson.loads(self.manifest.read_bytes()) if self.manifest.is_file() else None


def run_for(recipe: str, backend: str, name: str | None = None, root: Path = RUNS) -> Run:
    """The run of a recipe; ``name`` (RUN=) keeps several side by side. Raises UserError for a name that is no folder name."""
    if name and ("/" in name or name.startswith(".") or name in ("train", "merged")):
        raise UserError(f"RUN={name!r} is not usable as a folder's name; choose letters, digits, - and _")
    return Run(root / recipe / backend / name if name else root / recipe / backend)


@contextlib.contextmanager
def hold(run: Run) -> Iterator[int]:
    """Lock the run; yields the lock's descriptor for the trainer to inherit, so that it holds while the trainer lives.

    Raises UserError when another process trains this run.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{run.folder}: another process is training this run; wait for it, or use RUN=<name>"
            ) from None
        yield lock.fileno()


def complete_checkpoint(folder: Path) -> bool:
    """Whether the trainer finished writing it: `trainer_state.json` is written last, and every weight file is whole."""
    try:
        json.loads((folder / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    weights = list(folder.glob("*.safetensors"))
    return bool(weights) and all(safetensors_whole(path) for path in weights)


def step_of(folder: Path) -> int:
    """``checkpoint-40`` → 40."""
    return int(folder.name.rpartition("-")[2])


def checkpoints(run: Run) -> tuple[list[Path], list[Path]]:
    """(complete, broken) checkpoints of a run, by step."""
    found = sorted((path for path in run.train.glob("checkpoint-*") if path.name[11:].isdigit()), key=step_of)
    return [path for path in found if complete_checkpoint(path)], [
        path for path in found if not complete_checkpoint(path)
    ]


def set_aside(path: Path, why: str) -> Path:
    """Rename out of the way, never delete: ``train`` → ``train.<why>-1``."""
    number = 1
    while (target := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    path.rename(target)
    return target


def start_over(run: Run, root: Path = RUNS) -> Path | None:
    """FRESH=1: everything of the old run but other RUN= folders moves to ``<backend>.old-<time>``; nothing is deleted."""
    own = [path for path in (run.recipe, run.native, run.manifest, run.train, run.merged) if path.exists()]
    own += [path for path in run.folder.glob("train.*-*")] if run.folder.is_dir() else []
    if not own:
        return None
    old = run.folder.with_name(f"{run.folder.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
    old.mkdir(parents=True)
    for path in own:
        path.rename(old / path.name)
    return old


def freeze(run: Run, recipe: Recipe, decided_by: dict[str, Any]) -> None:
    """Write the frozen recipe, or compare with the one there.

    ``decided_by``: what besides the recipe decides the run: the rows' hash, the run it starts from, the number of devices.
    Raises UserError with the difference when they disagree.
    """
    keys = {**recipe.keys, **decided_by}
    if run.recipe.is_file():
        refuse_if_changed(run, keys)
        return
    if run.train.exists() and any(run.train.iterdir()):
        raise UserError(
            f"{run.train} holds files of a run that was not started by make (no {run.recipe.name} beside it); "
            "move it away, or use FRESH=1 or RUN=<name>"
        )
    head = f"# frozen by make {recipe.name}" + (f"; SET: {recipe.overrides}" if recipe.overrides else "") + "\n"
    atomic_write(run.recipe, head + dump(keys))


def refuse_if_changed(run: Run, keys: dict[str, Any]) -> None:
    """Raise UserError with every difference between the frozen recipe and ``keys``."""
    changed = differences(read_yaml(run.recipe), keys)
    if changed:
        raise UserError(
            f"{run.folder} holds a run of another recipe or other data:\n  "
            + "\n  ".join(changed)
            + "\nkeep it and start over with FRESH=1 (the old run is renamed), or run beside it with RUN=<name>"
        )


def write_manifest(run: Run, content: dict[str, Any]) -> None:
    """The evidence of a finished run."""
    atomic_json(run.manifest, content)
