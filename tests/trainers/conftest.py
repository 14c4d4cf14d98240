"""A registered dataset folder and a recipe on it, made anew for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from store.registry import register
from tests.trainers.conversations import CONVERSATIONS
from trainers.recipe import Recipe


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write rows to ``<tmp>/datasets/<name>.jsonl`` and register them; returns the dataset_dir."""

    def write(name: str, rows: list[dict[str, Any]], kind: str = "sft") -> Path:
        folder = tmp_path / "datasets"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.jsonl"
        file.write_bytes(b"".join(orjson.dumps({"id": f"{name}{at}", **row}) + b"\n" for at, row in enumerate(rows)))
        register(folder, name, file, kind)
        return folder

    return write


@pytest.fixture
def recipe_on(tiny_model: Path, write_dataset: Callable[..., Path]) -> Callable[..., Recipe]:
    """A minimal recipe over CONVERSATIONS (or given messages), with any keys overridden."""

    def make(messages: list[list[dict[str, str]]] | None = None, **keys: Any) -> Recipe:
        folder = write_dataset("chats", [{"messages": one} for one in (messages or CONVERSATIONS)])
        return Recipe(
            "test",
            {
                "model_name_or_path": str(tiny_model),
                "stage": "sft",
                "finetuning_type": "full",
                "dataset_dir": str(folder),
                "dataset": "chats",
                "template": "qwen",
                "cutoff_len": 256,
                **keys,
            },
        )

    return make
