"""Registered datasets → examples: reads what `dataset_info.json` describes, in the layouts LLaMA-Factory knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from store.errors import UserError
from store.hashing import file_sha256
from store.registry import dataset_file, entries


@dataclass(frozen=True)
class Example:
    """``messages`` ends with the answer (SFT) or with the user (preference: then ``chosen`` and ``rejected`` are texts)."""

    id: str
    messages: list[dict[str, str]]
    chosen: str | None = None
    rejected: str | None = None


@dataclass(frozen=True)
class Source:
    """One registered dataset: its name, file, the file's hash, and how its columns are named."""

    name: str
    path: Path
    sha256: str
    entry: dict[str, Any]

    @property
    def ranking(self) -> bool:
        """Whether it holds preference pairs."""
        return bool(self.entry.get("ranking"))


def source(dataset_dir: str | Path, name: str) -> Source:
    """A registered dataset. Raises UserError for an unknown name, a missing file or a layout we do not read."""
    path = dataset_file(dataset_dir, name)
    entry = entries(dataset_dir)[name]
    if not path.is_file():
        raise UserError(f"dataset {name!r}: its file {path} is not there; convert it first (make help, section data)")
    if path.suffix not in (".jsonl", ".json", ".arrow"):
        raise UserError(
            f"dataset {name!r}: {path.suffix or 'no suffix'} is not read here; convert it with make data-chat INPUT={path}"
        )
    return Source(name, path, file_sha256(path), entry)


def read(found: Source) -> Iterator[Example]:
    """Every row as an Example. Raises UserError naming file, row and what was expected."""
    build = _alpaca if found.entry.get("formatting", "alpaca") == "alpaca" else _sharegpt
    for number, row in _rows(found.path):
        try:
            yield build(row, found.entry, str(row.get("id", f"{found.name}:{number}")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{found.path}:{number}: not a row of dataset {found.name!r} ({error!r}); convert the file again"
            ) from None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix == ".arrow":
        from datasets import Dataset

        yield from enumerate(Dataset.from_file(str(path)), 1)
        return
    with open(path, "rb") as stream:
        if stream.read(1) == b"[":
            yield from enumerate(orjson.loads(path.read_bytes()), 1)
            return
        stream.seek(0)
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    yield number, orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise UserError(f"{path}:{number}: not JSON ({error}); convert the file again") from None


def _sharegpt(row: dict[str, Any], entry: dict[str, Any], identity: str) -> Example:
    columns, tags = entry.get("columns", {}), entry.get("tags", {})
    role, content = tags.get("role_tag", "from"), tags.get("content_tag", "value")
    names = {
        tags.get("user_tag", "human"): "user",
        tags.get("assistant_tag", "gpt"): "assistant",
        tags.get("system_tag", "system"): "system",
    }

    def turn(message: dict[str, str]) -> dict[str, str]:
        return {"role": names[message[role]], "content": _text(message[content])}

    messages = [turn(message) for message in row[columns.get("messages", "conversations")]]
    if columns.get("system") and row.get(columns["system"]):
        messages.insert(0, {"role": "system", "content": _text(row[columns["system"]])})
    if entry.get("ranking"):
        sides = (row[columns.get(side, side)] for side in ("chosen", "rejected"))
        chosen, rejected = (turn(side)["content"] if isinstance(side, dict) else _text(side) for side in sides)
        return Example(identity, messages, chosen, rejected)
    return Example(identity, messages)


def _alpaca(row: dict[str, Any], entry: dict[str, Any], identity: str) -> Example:
    columns = entry.get("columns", {})

    def column(name: str, default: str) -> Any:
        return row.get(columns.get(name, default))

    messages: list[dict[str, str]] = []
    if column("system", "system"):
        messages.append({"role": "system", "content": _text(column("system", "system"))})
    for question, reply in column("history", "history") or []:
        messages += [{"role": "user", "content": _text(question)}, {"role": "assistant", "content": _text(reply)}]
    query = column("query", "input")
    prompt = _text(column("prompt", "instruction"))
    messages.append({"role": "user", "content": f"{prompt}\n{query}" if query else prompt})
    if entry.get("ranking"):
        return Example(identity, messages, _text(column("chosen", "chosen")), _text(column("rejected", "rejected")))
    messages.append({"role": "assistant", "content": _text(column("response", "output"))})
    return Example(identity, messages)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value
