"""Where a model's weights are: a local folder, a hub id under MODELS_DIR, or a hub id to be downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from store.errors import UserError


def resolve(name: str) -> str:
    """A model folder or hub id → what to load: an existing folder's path, else the hub id as it is.

    A hub id ``Org/Name`` is looked for as ``$MODELS_DIR/Org/Name``, then ``$MODELS_DIR/Name``.
    """
    if (Path(name) / "config.json").is_file():
        return name
    root = os.environ.get("MODELS_DIR")
    if root:
        for candidate in (Path(root) / name, Path(root) / Path(name).name):
            if (candidate / "config.json").is_file():
                return str(candidate)
    return name


def local(name: str) -> Path:
    """The local folder of a model, from disk, MODELS_DIR or the hub's download cache. Raises UserError when there is none."""
    found = resolve(name)
    if (Path(found) / "config.json").is_file():
        return Path(found)
    if name.startswith((".", "/", "models/", "runs/")) or name.count("/") != 1:
        raise UserError(f"model folder {name!r} has no config.json; build it first or correct the path")
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent
    raise UserError(
        f"model {name!r} is neither under MODELS_DIR ({os.environ.get('MODELS_DIR', 'not set')}) nor in the hub cache; "
        "set MODELS_DIR to a folder that holds it"
    )
