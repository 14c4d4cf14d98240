"""A batch: some rows of one input on their way from a reader to the encoder, parsed or still as bytes."""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from store.errors import UserError

BATCH_BYTES = 1 << 19  # of decompressed JSON per batch
BATCH_ROWS = 1000  # of parsed rows per batch


@dataclass
class Unreadable:
    """Stands in for a row that could not be parsed; `row` is what is kept of it in rejects.jsonl."""

    reason: str
    row: Any


@dataclass
class Batch:
    """`first` is the 1-based position of the first row. One of `rows` (parsed), `lines` (JSON lines) or `array` is set.

    `array` holds the elements of a JSON array without its brackets; it may come with `rows`, which then do not travel
    to a worker (parsing again is cheaper than pickling). `place` is where the lines lie in an uncompressed file: path, offset,
    length. Positions of JSON lines are line numbers, of all else row numbers.
    """

    label: str
    first: int
    rows: list[Any] | None = None
    lines: bytes | None = None
    array: bytes | None = None
    place: tuple[str, int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: of lines that lie in a plain file, only the place; of an array's elements, only the text."""
        return {
            **self.__dict__,
            "rows": None if self.array is not None else self.rows,
            "lines": None if self.place is not None else self.lines,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.place is not None:
            path, offset, length = self.place
            with open(path, "rb", buffering=0) as file:
                self.lines = os.pread(file.fileno(), length, offset)

    def stored(self) -> Iterator[tuple[int, Any]]:
        """(position, row), where a row of JSON lines is still the line's bytes."""
        if self.lines is not None:
            return enumerate(io.BytesIO(self.lines), self.first)  # finds line ends by memchr, bytes.split does not
        return enumerate(self.parse()[1], self.first)

    def parse(self) -> tuple[list[int] | range, list[Any]]:
        """Positions and rows; `Unreadable` in place of bad lines; blank lines are no rows. Raises UserError on invalid UTF-8."""
        if self.lines is not None:
            found = [(place, lenient(line, self.label, place)) for place, line in self.stored() if line.strip()]
            return [place for place, _ in found], [row for _, row in found]
        rows = self.rows if self.rows is not None else orjson.loads(b"[%b]" % (self.array or b""))
        return range(self.first, self.first + len(rows)), rows

    def head(self, limit: int) -> Batch:
        """The first `limit` rows (of JSON lines: lines)."""
        if self.lines is not None:
            return Batch(self.label, self.first, lines=b"".join(itertools.islice(io.BytesIO(self.lines), limit)))
        _, rows = self.parse()
        return Batch(self.label, self.first, rows=rows[:limit])


def lenient(line: bytes, label: str, position: int) -> Any:
    """One JSON line that orjson may refuse: NaN and Infinity (written by pandas) become null, anything else is Unreadable.

    Raises UserError when the line is not UTF-8: then the whole file is in another encoding, which no row rule can mend.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(label, position, error) from None
    return standard(text)


def standard(text: str) -> Any:
    """`text` parsed by the json module: NaN and Infinity are null; Unreadable when that fails too."""
    try:
        row = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return Unreadable("not-json", text)
    return clean(row, text)


def clean(row: Any, text: str) -> Any:
    """`row`, or Unreadable when it holds half a surrogate pair, which no UTF-8 file can store."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Unreadable("lone-surrogate", text)
    except (ValueError, RecursionError):
        return Unreadable("not-json", text)
    return row


def not_utf8(label: str, position: int | str, error: UnicodeDecodeError) -> UserError:
    """The one line for a file in another encoding."""
    byte = error.object[error.start]
    return UserError(
        f"{label}: row {position} is not valid UTF-8 (byte 0x{byte:02x}); expected UTF-8 JSON; "
        "convert it first, e.g. iconv -f GB18030 -t UTF-8"
    )
