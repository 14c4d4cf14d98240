"""A look at a model's folder before an engine spends a minute to find the same out."""

from __future__ import annotations

import json
import re
from pathlib import Path

from store.errors import UserError
from store.models import local, require_hub, resolve, safetensors_whole

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def check(folder: Path) -> None:
    """Raises UserError when the folder is no complete model: configuration, tokenizer, every weights file whole."""
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(f"{folder}: no config.json; a folder with a Hugging Face model was expected")
    try:
        json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{config}: is not valid JSON ({error}); build or download the model again") from None
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{folder}: no tokenizer (tokenizer.json); copy it from the base model")
    present = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    for index in folder.glob("*.index.json"):
        named = set(json.loads(index.read_text())["weight_map"].values())
        if missing := sorted(named - {path.name for path in present}):
            raise UserError(f"{folder}: {missing[0]}, named in {index.name}, is missing; download the model again")
    if not present:
        raise UserError(f"{folder}: no weights (*.safetensors); the training or the download did not finish")
    for path in present:
        if path.suffix == ".safetensors" and not safetensors_whole(path):
            raise UserError(f"{path}: is cut off or damaged; build or download the model again")


def find(model: str) -> str:
    """A folder or hub id → the complete folder to serve, or the hub id for the engine to download. Raises UserError."""
    found = resolve(model)
    if Path(found).is_dir():
        check(Path(found))
        return found
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", found) or found.startswith((".", "runs/", "models/", "recipes/")):
        raise UserError(f"model {model!r} is neither a folder nor a hub id (Org/Name); train it, or correct the path")
    try:
        cached = local(found)
        check(cached)
    except UserError:  # not in the hub's cache, or only a part of it
        require_hub(found)
        return found
    return str(cached)
