"""INPUT words → the files, Arrow folders and hub sets to read, each with the split it was published as."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from converters.columnar import dataset_dict_splits, is_arrow_folder
from store.errors import UserError

DATA_SUFFIXES = {
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".parquet",
    ".arrow",
    ".pkl",
    ".pickle",
    ".gz",
    ".zst",
    ".ndjson",
    ".txt",
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?")
_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "val",
    "valid": "val",
    "val": "val",
    "dev": "val",
    "test": "test",
}
_AT_START = re.compile(r"(train|training|validation|valid|val|dev|test)(?=[_.\-]|$)", re.IGNORECASE)
_AT_END = re.compile(r"[_.\-](train|training|validation|valid|val|dev|test)$", re.IGNORECASE)


@dataclass(frozen=True)
class Input:
    """One thing to read. `label` names it in messages and in meta["origin"]; `place` is the folder its splits are shared in."""

    path: Path | None
    label: str
    place: str
    explicit: bool
    split: str | None = None
    hub: str | None = None


def gather(words: list[str]) -> list[Input]:
    """Every input behind the INPUT words, folders walked in sorted order. Raises UserError for what does not exist."""
    found: list[Input] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found += _folder(path)
        elif path.exists():
            found.append(Input(path, path.name, str(path.parent), explicit=True, split=None))
        elif HUB_ID.fullmatch(word) and path.suffix not in DATA_SUFFIXES:
            found.append(Input(None, word, word, explicit=True, hub=word))
        else:
            raise UserError(f"{word}: no such file or folder (and not a hub id such as Org/Name); check INPUT=")
    unique = {(entry.path.resolve() if entry.path else entry.hub): entry for entry in reversed(found)}
    return published(list(reversed(unique.values())))


def _folder(root: Path) -> list[Input]:
    splits = dataset_dict_splits(root)
    if splits:
        return [Input(root / name, f"{root.name}/{name}", str(root), True, _NAMES.get(name.lower())) for name in splits]
    if is_arrow_folder(root):
        return [Input(root, root.name, str(root.parent), explicit=True)]
    found: list[Input] = []
    for path in sorted(root.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue
        if any(is_arrow_folder(parent) for parent in path.parents if parent != root and parent.is_relative_to(root)):
            continue
        if path.is_file() and path.name == "dataset_dict.json":
            continue
        if path.is_file() or is_arrow_folder(path):
            found.append(Input(path, str(path.relative_to(root)), str(path.parent), explicit=False))
    if not found:
        raise UserError(f"{root}: the folder holds no files; check INPUT=")
    return found


def published(inputs: list[Input]) -> list[Input]:
    """Mark the inputs that carry a published split.

    A split is named by the start of the file's name (`train_datasets.jsonl`, `test-00000.parquet`), by its end when another
    file of the same folder ends in another split (`qa_train.csv` beside `qa_test.csv`), or by the folder (`…/train/…`).
    A folder that publishes only "train" publishes no splits: val and test are then cut from it by SPLITS.
    """
    named = [replace(entry, split=entry.split or _named_split(entry, inputs)) for entry in inputs]
    places: dict[str, set[str]] = {}
    for entry in named:
        if entry.split:
            places.setdefault(_place(entry), set()).add(entry.split)
    return [
        replace(entry, split=None) if entry.split and places[_place(entry)] == {"train"} else entry for entry in named
    ]


def _place(entry: Input) -> str:
    place = Path(entry.place)
    return str(place.parent) if place.name.lower() in _NAMES else entry.place


def _stem(entry: Input) -> str:
    name = entry.path.name if entry.path else ""
    while Path(name).suffix.lower() in DATA_SUFFIXES:
        name = Path(name).stem
    return name


def _named_split(entry: Input, inputs: list[Input]) -> str | None:
    if entry.path is None:
        return None
    stem = _stem(entry)
    if start := _AT_START.match(stem):
        return _NAMES[start.group(1).lower()]
    if end := _AT_END.search(stem):
        prefix = stem[: end.start()]
        for other in inputs:
            match = _AT_END.search(_stem(other)) if other.place == entry.place else None
            if match and _stem(other)[: match.start()] == prefix and match.group(1).lower() != end.group(1).lower():
                return _NAMES[end.group(1).lower()]
    folder = entry.path.parent.name.lower()
    return _NAMES.get(folder)
