"""`datasets/dataset_info.json`: which name stands for which file. LLaMA-Factory reads the same file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import orjson

from store.errors import UserError
from store.writing import atomic_write

# LLaMA-Factory's `openai` formatting injects a system prompt into rows that have none, so `sharegpt` with role tags.
ROLE_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
SFT = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": ROLE_TAGS}
PREFERENCE = {
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {"messages": "messages", "chosen": "chosen", "rejected": "rejected"},
    "tags": ROLE_TAGS,
}
LAYOUTS: dict[str, dict[str, Any]] = {"sft": SFT, "preference": PREFERENCE}


def entries(dataset_dir: str | Path) -> dict[str, dict[str, Any]]:
    """All registered datasets by name; empty when there is no ``dataset_info.json``. Raises UserError if it is broken."""
    path = Path(dataset_dir) / "dataset_info.json"
    if not path.is_file():
        return {}
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error}); mend it or restore it with git") from None


def register(
    dataset_dir: str | Path, name: str, file: str | Path, kind: str = "sft", layout: dict[str, Any] | None = None
) -> None:
    """Add or replace ``name`` → ``file`` (a path under ``dataset_dir`` is stored relative to it).

    ``kind`` is ``sft`` or ``preference``; ``layout`` replaces its columns and tags for other export formats.
    """
    folder, file = Path(dataset_dir), Path(file)
    folder.mkdir(parents=True, exist_ok=True)
    shown = os.path.relpath(file, folder) if file.resolve().is_relative_to(folder.resolve()) else str(file.resolve())
    with open(folder / ".dataset_info.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = entries(folder)
        entry = {"file_name": shown, **(layout or LAYOUTS[kind])}
        if known.get(name) != entry:
            known[name] = entry
            ordered = dict(sorted(known.items()))
            atomic_write(folder / "dataset_info.json", orjson.dumps(ordered, option=orjson.OPT_INDENT_2) + b"\n")


def unregister(dataset_dir: str | Path, names: list[str]) -> list[str]:
    """Forget ``names``; returns those that were registered. Their files stay."""
    folder = Path(dataset_dir)
    with open(folder / ".dataset_info.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = entries(folder)
        gone = [name for name in names if known.pop(name, None) is not None]
        if gone:
            atomic_write(folder / "dataset_info.json", orjson.dumps(known, option=orjson.OPT_INDENT_2) + b"\n")
    return gone


def dataset_file(dataset_dir: str | Path, name: str) -> Path:
    """The file behind a registered name. Raises UserError for an unknown name, naming the nearest one."""
    import difflib

    known = entries(dataset_dir)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; nearest is {near[0]!r}" if near else ""
        raise UserError(f"dataset {name!r} is not in {Path(dataset_dir) / 'dataset_info.json'}{hint}")
    return Path(dataset_dir) / known[name]["file_name"]
