"""Hub ids through the `datasets` library: downloaded once and cached, or streamed."""

from __future__ import annotations

import functools
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from converters.batches import BATCH_ROWS, Batch
from converters.inputs import Input
from converters.reading import Table
from store.errors import UserError

SPLIT_NAMES = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}


OFFLINE_HINT = "; offline, give a local copy: "


def reachable() -> bool:
    """Does the hub answer within five seconds? Asked first, because the library tries for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        urllib.request.urlopen(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def splits_of(inputs: list[Input], stream: bool) -> list[Input]:
    """Every hub input replaced by one per split of the set; files stay as they are. A lone "train" is no published split."""
    found: list[Input] = []
    for entry in inputs:
        if entry.hub is None:
            found.append(entry)
            continue
        names = list(_load(entry.hub, stream))
        several = len(names) > 1
        for name in names:
            split = SPLIT_NAMES.get(name.lower())
            split = None if split == "train" and not several else split
            found.append(replace(entry, hub=f"{entry.hub}#{name}", label=f"{entry.hub}/{name}", split=split))
    return found


def open_split(entry: Input, stream: bool) -> Table:
    """One split of a hub set as a table; its "sha256" is the fingerprint of the downloaded set."""
    assert entry.hub is not None
    word, _, name = entry.hub.partition("#")
    split = _load(word, stream)[name]
    fingerprint = str(getattr(split, "_fingerprint", "streamed"))
    return Table(
        entry.label,
        "hub",
        0,
        _batches(split, entry.label, stream),
        lambda: 0,
        lambda: f"fingerprint:{fingerprint}",
        lambda: None,
    )


@functools.cache
def _load(word: str, stream: bool) -> dict[str, Any]:
    """`Org/Name` or `Org/Name:config` → its splits. Raises UserError when the hub cannot be reached or knows no such set."""
    if not reachable():
        os.environ["HF_HUB_OFFLINE"] = (
            "1"  # read when the library is imported: the cache answers at once, or nothing does
        )
    import datasets

    name, _, config = word.partition(":")
    try:
        return dict(datasets.load_dataset(name, config or None, streaming=stream))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            f"{word}: no such file, and the hub does not give it as a dataset ({type(error).__name__}: {reason})"
            f"{OFFLINE_HINT}INPUT=<file or folder>"
        ) from None


def _batches(split: Any, label: str, stream: bool) -> Iterator[Batch]:
    first = 1
    source = split.iter(BATCH_ROWS) if stream else split.with_format("arrow").iter(BATCH_ROWS)
    for chunk in source:
        if stream:
            names = list(chunk)
            rows = [dict(zip(names, values, strict=True)) for values in zip(*chunk.values(), strict=True)]
        else:
            rows = chunk.to_pylist()
        yield Batch(label, first, rows=rows)
        first += len(rows)
