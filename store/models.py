"""Where a model's weights are: a local folder, a hub id under MODELS_DIR, or a hub id to be downloaded."""

from __future__ import annotations

import json
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


def require_hub(model: str) -> None:
    """Raises UserError unless the hub can be asked for ``model``; libraries would try for a minute before they say so."""
    where = (
        f"model {model!r} is neither under MODELS_DIR ({os.environ.get('MODELS_DIR', 'not set')}) nor in the hub cache"
    )
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise UserError(f"{where}, and HF_HUB_OFFLINE is set; set MODELS_DIR to a folder that holds it")
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        huggingface_hub.HfApi().model_info(model, timeout=10)
    except GatedRepoError:
        raise UserError(f"model {model!r} is gated: accept its licence on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(f"{where}, and the hub has no such model (or HF_TOKEN is needed); correct the name") from None
    except Exception as error:  # requests or httpx, by the hub library's version
        problem = f"{where}, and the hub cannot be reached ({type(error).__name__})"
        raise UserError(f"{problem}; set MODELS_DIR to a folder that holds it") from None


def safetensors_whole(path: Path) -> bool:
    """True when the file is as long as its header says (8 bytes header length, little-endian; JSON header; data)."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)
