"""What a source module gives the engine: shapes, each a pure function from one stored row to one draft of an example.

A source module exports `SHAPES: tuple[Shape, ...]`, most specific first. The engine (`run.py`) does everything else: reading,
recognising, ids, de-duplication, splits, writing. Nothing here or in a shape opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SHORT = 200  # characters: a source field up to this long is kept in meta, a longer one is dropped


class Reject(Exception):
    """This row makes no example. `reason` is a slug such as "empty-answer" and becomes a key of manifest["rejected"]."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Options:
    """Run options that a shape may look at; recorded in the manifest.

    think: "drop" leaves the source's reasoning text out, "keep" puts it before the answer as `<think>\\n…\\n</think>\\n\\n`.
    reply: which of several stored replies is the target, for sources that hold more than one ("auto": the source's default).
    """

    think: str = "drop"
    reply: str = "auto"


class Draft(NamedTuple):
    """One example before it has an id.

    body:  {"messages": [{"role", "content"}, …]} or {"messages", "chosen", "rejected"} (preference); content is plain text.
    group: text that decides the split (question, dialogue, patient); the engine normalises and hashes it.
    meta:  source fields that the example does not use, short (see `leftover`); the engine adds "source" and "origin".
    """

    body: dict[str, Any]
    group: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """One published row layout.

    name:      recorded as meta["source"], e.g. "huatuo26m-lite".       source: the CLI word, e.g. "huatuo".
    dataset:   default NAME of the converted set, e.g. "huatuo_lite".   columns: what a row must hold, for error messages.
    recognise: one parsed row (any JSON value) → is it of this shape? Never raises. The engine lets the first rows vote.
    convert:   (row, options) → Draft, or raises Reject; the engine hands it dicts only. The hot path: plain Python. Any other
               exception is a defect.
    expand:    one stored row → its items (a whole consultation → one item per doctor turn); each item goes to `convert`.
    kind:      "sft" or "preference".
    """

    name: str
    source: str
    dataset: str
    columns: tuple[str, ...]
    recognise: Callable[[object], bool]
    convert: Callable[[Any, Options], Draft]
    expand: Callable[[Any], Iterable[Any]] | None = field(default=None)
    kind: str = field(default="sft")


def leftover(row: dict[str, Any], used: frozenset[str]) -> dict[str, Any]:
    """The fields of `row` that the example does not use, for meta.

    Kept: numbers and booleans; strings, lists and objects whose text has at most SHORT characters.
    Dropped (the documented rule): None, empty values, and whatever is longer.
    """
    kept = {}
    for key, value in row.items():
        if value is None or key in used:
            continue
        kind = type(value)
        if kind is str:
            if value and len(value) <= SHORT:
                kept[key] = value
        elif kind is int or kind is float or kind is bool or (value and len(str(value)) <= SHORT):
            kept[key] = value
    return kept


def text(value: object, reason: str) -> str:
    """`value` stripped, or Reject(reason) when it is no string or blank."""
    if isinstance(value, str):
        value = value.strip()
        if value:
            return value
    raise Reject(reason)
