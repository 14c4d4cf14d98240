"""Which shape of a source an input has: its first rows vote."""

from __future__ import annotations

import re

from converters.batches import Batch, Unreadable
from converters.shape import Shape
from store.errors import UserError

VOTERS = 64
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")


class OtherShape(UserError):
    """The rows are readable but of no shape of this source: skipped in a folder, an error when named."""


def recognise(label: str, batch: Batch, shapes: tuple[Shape, ...]) -> Shape:
    """The most specific (earliest) shape that at least half of the first rows have, else the one most of them have.

    Raises OtherShape when no row is of any shape, UserError when none of them parses.
    """
    positions, rows = batch.head(VOTERS).parse()
    readable = [
        (position, row) for position, row in zip(positions, rows, strict=True) if not isinstance(row, Unreadable)
    ]
    if not readable and batch.lines is None:
        raise OtherShape(
            f"{label}: row 1: none of the first {len(rows)} rows has as many columns as the first line; expected a CSV header"
        )
    if not readable:
        raise UserError(
            f"{label}: row 1: none of the first {len(rows)} rows parses as JSON; expected one JSON value a line, an array, or CSV"
        )
    votes = [sum(map(shape.recognise, (row for _, row in readable))) for shape in shapes]
    best = max(votes)
    if not best:
        raise OtherShape(_no_shape(label, *readable[0], shapes))
    return next(
        (shape for shape, count in zip(shapes, votes, strict=True) if 2 * count >= len(readable)),
        shapes[votes.index(best)],
    )


def _no_shape(label: str, position: int, row: object, shapes: tuple[Shape, ...]) -> str:
    if isinstance(row, dict):
        # the first line of a CSV without a header is a patient's text: only what looks like names is shown
        named = all(IDENTIFIER.fullmatch(str(name)) for name in row)
        have = (
            f"columns {', '.join(map(str, list(row)[:12]))}" if named and row else f"{len(row)} columns without names"
        )
        nearest = max(shapes, key=lambda shape: len(set(shape.columns) & set(row)))
        missing = [name for name in nearest.columns if name not in row]
        close = len(missing) < len(nearest.columns)
        hint = f"; nearest is {nearest.name}, without {', '.join(missing)}" if missing and close else ""
    else:
        have, hint = f"a {type(row).__name__}", ""
    wanted = " | ".join(dict.fromkeys(", ".join(shape.columns) for shape in shapes))
    return f"{label}: row {position} has {have}{hint}; source {shapes[0].source} expects {wanted}"
