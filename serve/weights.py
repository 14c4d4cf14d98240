"""A look at a model's folder before an engine spends a minute to find the same out."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from store.errors import UserError
from store.models import local, resolve

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


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


def require_hub(model: str) -> None:
    """Raises UserError unless the hub can be asked for ``model``; an engine would try for a minute before it says so."""
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
