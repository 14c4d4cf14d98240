"""CSV with a header as batches of dicts: UTF-8, UTF-8 with a byte-order mark, or GB18030, told by the bytes."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from converters.batches import BATCH_ROWS, Batch, Unreadable
from converters.compression import Stream
from store.errors import UserError

MAX_FIELD = 1 << 26  # characters: a longer field is a quote that was never closed

_PAIR = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]")
_GB2312_PAIR = re.compile(rb"[\xa1-\xfe][\xa1-\xfe]")


def encoding_of(path: Path, label: str) -> str:
    """ "utf-8-sig" or "gb18030" from all bytes of the file. Raises UserError, with the line, when it is neither.

    Almost any Western text is formally GB18030 too, so a file counts as GB18030 only when at least four in five of its
    two-byte characters are of the GB2312 part, in which common Chinese lies.
    """
    utf8, gb = codecs.getincrementaldecoder("utf-8")(), codecs.getincrementaldecoder("gb18030")()
    stream, line, bad_line, pairs, common = Stream(path, label), 1, 0, 0, 0
    try:
        while True:
            block = stream.read()
            if not bad_line:
                try:
                    utf8.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    bad_line = line + error.object.count(b"\n", 0, error.start)
            try:
                gb.decode(block, final=not block)
            except UnicodeDecodeError:
                if bad_line:
                    raise _unknown_encoding(label, bad_line) from None
                gb = codecs.getincrementaldecoder("gb18030")(errors="replace")
                common = -(1 << 62)
            if not block:
                break
            line += block.count(b"\n")
            if pairs < 100_000:
                pairs += len(_PAIR.findall(block))
                common += len(_GB2312_PAIR.findall(block))
    finally:
        stream.close()
    if not bad_line:
        return "utf-8-sig"
    if common >= 0.8 * pairs:
        return "gb18030"
    raise _unknown_encoding(label, bad_line)


def _unknown_encoding(label: str, line: int) -> UserError:
    return UserError(
        f"{label}: line {line} is neither UTF-8 nor GB18030; convert the file first, e.g. iconv -f WINDOWS-1252 -t UTF-8"
    )


def csv_batches(stream: Stream, encoding: str, delimiter: str) -> Iterator[Batch]:
    """Batches of {column: text}; row 1 is the first after the header. A row of another width is Unreadable.

    Raises UserError for a field that is never closed (truncated file) or longer than MAX_FIELD.
    """
    csv.field_size_limit(MAX_FIELD)
    kept = _KeptLines(io.TextIOWrapper(io.BufferedReader(_Raw(stream), 1 << 20), encoding=encoding, newline=""))
    reader = csv.reader(kept, delimiter=delimiter)
    rows: list[dict[str, str] | Unreadable] = []
    position, first = 0, 1
    try:
        header = [name.strip() for name in next(reader, [])]
        width = len(header)
        if len(set(header)) < width:
            twice = next(name for name in header if header.count(name) > 1)
            # a first line that is no header is a patient's text, and is not shown
            shown = f" column {twice!r}" if twice.isidentifier() and twice.isascii() else " a column"
            raise UserError(
                f"{stream.label}: row 1: the CSV header names{shown} twice; expected a header with distinct names"
            )
        kept.lines.clear()
        for fields in reader:
            if not fields:
                kept.lines.clear()
                continue
            position += 1
            if len(fields) == width:
                rows.append(dict(zip(header, fields, strict=True)))
            else:
                rows.append(Unreadable("wrong-number-of-columns", fields))
            if len(rows) == BATCH_ROWS:
                yield Batch(stream.label, first, rows=rows)
                rows, first = [], position + 1
            last = "".join(kept.lines) if kept.at_end else ""
            kept.lines.clear()
            if last and _open_quote(last, delimiter):
                raise UserError(
                    f"{stream.label}: row {position}: a quoted field is never closed (a truncated file?); fetch it again"
                )
    except csv.Error as error:
        raise UserError(f"{stream.label}: row {position + 1}: not CSV ({error}); is a closing quote missing?") from None
    if rows:
        yield Batch(stream.label, first, rows=rows)


def _open_quote(record: str, delimiter: str) -> bool:
    """Does this last record end inside quotes? A record that does swallows one more line; a whole one does not."""
    probe = "\r\nprobe"
    return len(list(csv.reader(io.StringIO(record.rstrip("\r\n") + probe, newline=""), delimiter=delimiter))) == 1


class _KeptLines:
    """The lines the reader took since the last clear, and whether the text is at its end."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.lines: list[str] = []
        self.at_end = False
        self._text = text
        self._next: str | None = text.readline()

    def __iter__(self) -> _KeptLines:
        return self

    def __next__(self) -> str:
        if not self._next:
            raise StopIteration
        line, self._next = self._next, self._text.readline()
        self.at_end = not self._next
        self.lines.append(line)
        return line


class _Raw(io.RawIOBase):
    """A Stream as a raw binary file."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        block = self._stream.read(len(target))
        target[: len(block)] = block
        return len(block)
