"""Tokenised rows → the columns a trainer reads, alone or in packs, written as Arrow."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trainers.rendering import Row


def compact(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same rows at 4 bytes a token: a list of Python ints takes ten times that."""
    return tuple(Row(array("i", row.ids), array("i", row.labels)) for row in rows)


def columns(rows: tuple[Row, ...]) -> dict[str, Any]:
    """One stored row: exactly input_ids, attention_mask, labels; for a pair the six columns the trainer's collator reads."""
    if len(rows) == 1:
        return {
            "input_ids": list(rows[0].ids),
            "attention_mask": [1] * len(rows[0].ids),
            "labels": list(rows[0].labels),
        }
    stored: dict[str, Any] = {}
    for side, row in zip(("chosen", "rejected"), rows, strict=True):
        stored |= {
            f"{side}_input_ids": list(row.ids),
            f"{side}_attention_mask": [1] * len(row.ids),
            f"{side}_labels": list(row.labels),
        }
    # LLaMA-Factory's pairwise collator indexes these three in every row
    return stored | {"images": None, "videos": None, "audios": None}


def packed(rows: list[Row], chosen: list[list[int]], neat: bool) -> Iterator[dict[str, Any]]:
    """Packs as rows; with ``neat`` the mask counts 1, 2, 3 … so that the trainer builds a block-diagonal mask from it."""
    for pack in chosen:
        ids: list[int] = []
        mask: list[int] = []
        labels: list[int] = []
        for place, index in enumerate(pack, 1):
            ids += rows[index].ids
            mask += [place if neat else 1] * len(rows[index].ids)
            # the first token of a sample must not be predicted from the sample before it
            labels += [-100, *rows[index].labels[1:]]
        yield {"input_ids": ids, "attention_mask": mask, "labels": labels}


def write_arrow(stored: Iterable[dict[str, Any]], path: Path) -> Any:
    """Rows to an Arrow file, batch by batch, so that memory holds the compact ids only; returns it memory-mapped."""
    from datasets import Dataset, Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    stored = iter(stored)
    first = next(stored)
    features = Features(
        {name: Value("null") if value is None else Sequence(Value("int32")) for name, value in first.items()}
    )
    with ArrowWriter(path=str(path), features=features) as writer:
        writer.write(first)
        for row in stored:
            writer.write(row)
        writer.finalize()
    return Dataset.from_file(str(path))
