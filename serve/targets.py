"""What the user named (a recipe, a model folder, a hub id) → what to serve, under which name, with which serve file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.errors import UserError

RUNS = Path("runs")
RECIPES = Path("recipes/serve")


@dataclass(frozen=True)
class Target:
    """A thing to serve; ``folder`` receives the logs."""

    model: str | None
    name: str | None
    folder: Path
    adapters: dict[str, Path] = field(default_factory=dict)
    template: str | None = None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run. Raises UserError when the run is missing or not complete."""
    path = folder / "manifest.json"
    recipe = folder.relative_to(RUNS).parts[0] if folder.is_relative_to(RUNS) else folder.name
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        named = sorted(found.parent.name for found in folder.glob("*/manifest.json"))
        other = f", or name one of its runs with RUN= ({', '.join(named)})" if named else ""
        raise UserError(f"{path}: there is no such run; train it first with: make {recipe}{other}") from None
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); finish the run with: make {recipe}") from None
    if manifest.get("status") != "complete":
        raise UserError(f"{path}: the run is {manifest.get('status', 'not complete')}; finish it with: make {recipe}")
    return manifest


def of_run(folder: Path, adapter: bool) -> Target:
    """A run folder → its merged weights, or with ``adapter`` its base model and LoRA adapter."""
    manifest = read_manifest(folder)
    name, template = manifest["recipe"], manifest.get("template")
    if not adapter:
        return Target(str(folder / manifest["model"]), name, folder / "serve", template=template)
    if not manifest.get("adapter"):
        raise UserError(f"{folder}: recipe {name} trained the whole model, there is no adapter; leave --adapter away")
    base = manifest.get("base_local") or manifest["base_model"]
    return Target(base, f"{name}-base", folder / "serve", {name: folder / manifest["adapter"]}, template)


def find(asked: str, backend: str, run: str | None, adapter: bool) -> Target:
    """A recipe's name, run folder, model folder or hub id → Target. Raises UserError."""
    place = Path(asked)
    if place.is_dir() and (place / "manifest.json").is_file() and not (place / "config.json").is_file():
        return of_run(place, adapter)
    if place.is_dir() or "/" in asked:
        if adapter:
            raise UserError(f"{asked}: --adapter needs the recipe that trained it; name the recipe or its run folder")
        return Target(asked, place.name, RUNS / "serve" / place.name)
    folder = RUNS / asked / backend
    if not (RUNS / asked).is_dir() and not Path("recipes", f"{asked}.yaml").is_file():
        raise UserError(f"{asked!r} is no recipe, run or model folder; `make help` lists the recipes")
    return of_run(folder / run if run else folder, adapter)


def serve_file(asked: str, engine: str) -> Path:
    """The serve file: recipes/serve/<recipe>.yaml, else <model>.yaml (sft-qwen32b → qwen32b), else <engine>.yaml.

    The first two are written for GPUs, so only engine vllm looks for them.
    """
    stem = Path(asked).name
    named = [stem, stem.partition("-")[2]] if engine == "vllm" else []
    candidates = [RECIPES / f"{name}.yaml" for name in named if name]
    return next((path for path in candidates if path.is_file()), RECIPES / f"{engine}.yaml")
