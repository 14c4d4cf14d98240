"""Rows of a converted split: the prompt a candidate may see, and the reference it may not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from store.errors import UserError
from store.hashing import content_id
from store.registry import dataset_file

SUFFIX = {"train": "", "val": "_val", "test": "_test"}


@dataclass(frozen=True)
class EvalRow:
    """``prompt``: every message before the last assistant turn. ``reference``: that turn's text, never sent to a candidate."""

    id: str
    prompt: list[dict[str, str]]
    reference: str
    meta: dict[str, Any]


def split_file(dataset: str, split: str, dataset_dir: str | Path = "datasets") -> Path:
    """The file of a split: a path to a ``.jsonl``, a folder holding ``<split>.jsonl``, or a registered name."""
    path = Path(dataset)
    if path.is_file():
        return path
    path = path / f"{split}.jsonl" if path.is_dir() else dataset_file(dataset_dir, dataset + SUFFIX[split])
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; convert the data first (make data-<source> INPUT=… NAME={dataset}), or DATASET=<name>"
        )
    return path


def read_rows(path: Path, limit: int | None = None) -> list[EvalRow]:
    """The first ``limit`` rows (all when None). Raises UserError with file and row for anything that is not an example."""
    rows: list[EvalRow] = []
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if limit is not None and len(rows) >= limit:
                break
            if line.strip():
                rows.append(_row(f"{path}:{number}", line))
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise UserError(
                f"{path}: two rows have the id {row.id}; convert the data again (duplicates are removed there)"
            )
        seen.add(row.id)
    if not rows:
        raise UserError(f"{path}: no rows to evaluate on; choose another split or convert with a larger test share")
    return rows


def _row(where: str, line: bytes) -> EvalRow:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error})") from None
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
        raise UserError(f"{where}: expected a converted row with messages of role and content; use make data-<source>")
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise UserError(
            f"{where}: expected the last message to be the assistant's (the reference), found {len(messages)} messages"
        )
    prompt = [{"role": message["role"], "content": message["content"]} for message in messages[:-1]]
    return EvalRow(str(row.get("id") or content_id(messages)), prompt, messages[-1]["content"], row.get("meta") or {})


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
    )


def data_hash(rows: list[EvalRow]) -> str:
    """Hash of what is evaluated: ids, prompts and references, in order. 16 hex digits."""
    return content_id([[row.id, row.prompt, row.reference] for row in rows])
