"""One input → a table of batches. The format is told by the content, never by the file's name.

Bad file or bad row? A FILE is bad (UserError, nothing is written) when it cannot be trusted as a whole: empty, damaged,
in an unknown encoding, a JSON array that breaks off, a CSV quote that is never closed, no row of a known shape at its start.
A ROW is bad (rejected, counted, kept in rejects.jsonl) when the rows around it are still good: a JSON line that does not
parse, a CSV row of another width, a field missing or empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from converters import columnar
from converters.batches import BATCH_BYTES, Batch
from converters.compression import Stream
from converters.csv_rows import csv_batches, encoding_of
from converters.json_rows import BOM, SPACE, array_batches, line_batches
from store.errors import UserError
from store.hashing import file_sha256

HEAD = BATCH_BYTES
NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
PICKLE = re.compile(rb"\x80[\x02-\x05]")
UTF16 = (b"\xff\xfe", b"\xfe\xff")


class NoData(UserError):
    """The file is readable but holds no rows (empty, a README, an image): skipped in a folder, an error when named."""


@dataclass
class Table:
    """`batches` may be iterated once; `position()` is in stored bytes (of `size`), `sha256()` is asked for at the end."""

    label: str
    format: str
    size: int
    batches: Iterator[Batch]
    position: Callable[[], int]
    sha256: Callable[[], str]
    close: Callable[[], None]


def open_table(path: Path, label: str) -> Table:
    """Open one file or Arrow folder. Raises NoData when it holds no rows, UserError when it is damaged."""
    if path.is_dir():
        files = columnar.arrow_files(path, label)
        size = sum(file.stat().st_size for file in files)
        return _whole(
            label,
            "arrow folder",
            size,
            columnar.arrow_folder_batches(path, label),
            lambda: columnar.folder_sha256(files),
        )
    size = path.stat().st_size
    head, complete = _head(path, label)
    if not head.strip(SPACE):
        raise NoData(f"{label}: the file is empty; expected rows")
    if head[:4] == b"PAR1":
        return _whole(label, "parquet", size, columnar.parquet_batches(path, label), lambda: file_sha256(path))
    if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
        return _whole(label, "arrow", size, columnar.arrow_batches(path, label), lambda: file_sha256(path))
    if PICKLE.match(head) or (path.suffix in (".pkl", ".pickle") and not _is_json(head)):
        return _whole(label, "pickle", size, _pickle_batches(path, label), lambda: file_sha256(path))
    if head.startswith(UTF16):
        raise UserError(f"{label}: row 1: UTF-16 text; expected UTF-8; convert it first, e.g. iconv -f UTF-16 -t UTF-8")
    if NOT_TEXT.search(head[:4096]) and not _is_json(head):
        raise NoData(f"{label}: not a data file (binary); expected JSON, CSV, Parquet, Arrow or a pickle")
    return _text_table(path, label, size, head.removeprefix(BOM), complete)


def _text_table(path: Path, label: str, size: int, head: bytes, complete: bool) -> Table:
    kind = text_format(head, complete)
    if kind == "csv":
        header = head.lstrip(SPACE).split(b"\n", 1)[0]
        delimiter = max((",", "\t", ";"), key=lambda mark: header.count(mark.encode()))
        if delimiter.encode() not in header and path.suffix not in (".csv", ".tsv"):
            raise NoData(f"{label}: not a data file (plain text); expected JSON lines, a JSON array or a CSV header")
        encoding = encoding_of(path, label)
        stream = Stream(path, label)
        name = f"csv ({encoding.removesuffix('-sig')})"
        batches = csv_batches(stream, encoding, delimiter)
    else:
        stream = Stream(path, label)
        name = kind
        batches = array_batches(stream) if kind == "json array" else line_batches(stream)
    return Table(label, name, size, batches, lambda: stream.position, stream.sha256, stream.close)


def text_format(head: bytes, complete: bool) -> str:
    """ "json array", "json lines" or "csv" from the start of a text file (`complete`: it is the whole file).

    `[` opens an array unless the first line is a whole value and another line follows. Anything else is JSON lines when
    most of the first lines parse as JSON objects or lists, or when it opens with `{` (then its rows will be rejected one by one).
    """
    start = head.lstrip(SPACE)
    lines = [line for line in start.split(b"\n")[:64] if line.strip()]
    if not complete and len(lines) > 1 and not head.endswith(b"\n"):
        lines = lines[:63] if len(lines) == 64 else lines[:-1]
    if start[:1] == b"[":
        return "json lines" if len(lines) > 1 and _is_container(lines[0]) else "json array"
    good = sum(map(_is_container, lines))
    return "json lines" if start[:1] == b"{" or 2 * good > len(lines) else "csv"


def _is_container(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), (dict, list))
    except orjson.JSONDecodeError:
        return False


def _is_json(head: bytes) -> bool:
    return head.removeprefix(BOM).lstrip(SPACE)[:1] in (b"{", b"[")


def _head(path: Path, label: str) -> tuple[bytes, bool]:
    """The first decompressed megabyte and whether that is all."""
    stream = Stream(path, label)
    try:
        head = b""
        while len(head) < HEAD and (block := stream.read(HEAD)):
            head += block
        return head, len(head) < HEAD
    finally:
        stream.close()


def _pickle_batches(path: Path, label: str) -> Iterator[Batch]:
    from ark.pickles import load

    rows = load(path)
    for start in range(0, len(rows), 1000):
        yield Batch(label, start + 1, rows=rows[start : start + 1000])


def _whole(label: str, kind: str, size: int, batches: Iterator[Batch], sha256: Callable[[], str]) -> Table:
    """A table whose reader opens the file itself and gives no position."""
    return Table(label, kind, size, batches, lambda: 0, sha256, lambda: None)
