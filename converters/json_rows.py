"""JSON lines and JSON arrays as batches, in a fixed amount of memory.

Lines: cut at the last newline of each block; nothing is parsed here, a bad line is found by the encoder and is a bad ROW.
Arrays: one block after another is cut where an element ends, and parsed. Where JSON itself is broken inside an array, nothing
after that point can be trusted, so it is a bad FILE: one UserError with the row.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from converters.batches import BATCH_BYTES, Batch, clean, not_utf8
from converters.compression import Stream
from store.errors import UserError

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
MAX_ELEMENT = 1 << 29  # bytes: what looks like one longer row is an array with a lost quote or bracket
_OPENING = re.compile(rb'\s*(\{\s*"(?:[^"\\]|\\.)*"|\[|\{)')
_DECODE = json.JSONDecoder(parse_constant=lambda _: None).raw_decode


def line_batches(stream: Stream) -> Iterator[Batch]:
    """Batches of whole lines; `first` is a line number. A byte-order mark at the start is dropped."""
    rest, number, offset = b"", 1, 0
    start = True
    while block := stream.read(BATCH_BYTES):
        if start:
            offset, start = (len(BOM) if block.startswith(BOM) else 0), False
            block = block[offset:]
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest += block
            continue
        data, rest = rest + block[:cut], block[cut:]
        place = None if stream.packed else (str(stream.path), offset, len(data))
        yield Batch(stream.label, number, lines=data, place=place)
        number, offset = number + data.count(b"\n"), offset + len(data)
    if rest.strip():
        yield Batch(stream.label, number, lines=rest)


def array_batches(stream: Stream) -> Iterator[Batch]:
    """Batches of array elements; `first` is an element number. Raises UserError for a broken or truncated array."""
    buffer = stream.read(BATCH_BYTES).removeprefix(BOM).lstrip(SPACE)[1:]  # past the opening bracket
    number, ended, wanted = 1, False, BATCH_BYTES
    opening = _boundary(buffer)
    while True:
        while not ended and len(buffer) < wanted:
            block = stream.read(BATCH_BYTES)
            ended = not block
            buffer += block
        batch, used, closed = _take(buffer, opening, number, stream.label, ended)
        if batch is not None:
            yield batch
            number += len(batch.rows or ())
        if closed:
            _nothing_after(buffer[used:], stream, number)
            return
        if batch is not None:
            buffer, wanted = buffer[used:], BATCH_BYTES
        elif ended:
            raise _broken(stream.label, number, buffer)
        else:
            wanted = 2 * len(buffer) + BATCH_BYTES  # one element longer than the buffer
            if wanted > MAX_ELEMENT:
                raise _broken(stream.label, number, buffer[:80])


def _boundary(buffer: bytes) -> re.Pattern[bytes] | None:
    """What stands between two elements, learned from the first: `}` `,` and the same opening. Cannot occur inside a string."""
    found = _OPENING.match(buffer)
    if not found:
        return None
    head = found.group(1)
    close = b"}" if head[:1] == b"{" else b"]"
    spaced = rb"\s*".join(re.escape(part) for part in re.split(rb"\s+", head) if part)
    return re.compile(re.escape(close) + rb"\s*(,)\s*" + spaced)


def _take(
    buffer: bytes, boundary: re.Pattern[bytes] | None, number: int, label: str, ended: bool
) -> tuple[Batch | None, int, bool]:
    """(batch of the elements that end in this buffer or None, bytes used, array closed)."""
    if ended:
        stripped = buffer.rstrip(SPACE)
        if stripped.endswith(b"]"):
            inner = stripped[:-1].rstrip(SPACE)
            if not inner:
                return None, len(buffer), True
            rows = _parsed(inner)
            if rows is not None:
                return Batch(label, number, rows=rows, array=inner), len(buffer), True
    elif boundary is not None:
        # the last boundary near the end; a wrong guess (a nested list of like objects) does not parse and is found out
        near_end = boundary.finditer(buffer, max(0, len(buffer) - (BATCH_BYTES >> 3)))
        last = next(iter(collections.deque(near_end, maxlen=1)), None)
        if last is not None:
            inner = buffer[: last.start(1)]
            rows = _parsed(inner)
            if rows is not None:
                return Batch(label, number, rows=rows, array=inner), last.end(1), False
    return _take_one_by_one(buffer, number, label, ended)


def _parsed(inner: bytes) -> list | None:
    try:
        return orjson.loads(b"[%b]" % inner)
    except orjson.JSONDecodeError:
        return None


def _take_one_by_one(buffer: bytes, number: int, label: str, ended: bool) -> tuple[Batch | None, int, bool]:
    """The slow, exact way: elements by the json module until one is incomplete. Also tells where an array is broken."""
    text = _text(buffer, number, label, ended)
    rows: list[Any] = []
    place, closed = 0, False
    while True:
        place = _skip(text, place)
        if place < len(text) and text[place] == "]":
            place, closed = place + 1, True
            break
        try:
            row, end = _DECODE(text, place)
        except RecursionError:
            raise UserError(f"{label}: row {number + len(rows)} is nested too deeply to be a training row") from None
        except json.JSONDecodeError as error:
            if error.pos >= len(text) - 6 or error.msg.startswith("Unterminated string"):
                break  # cut off by the end of the buffer
            raise _broken(label, number + len(rows), text[place : place + 80].encode()) from None
        after = _skip(text, end)
        if after >= len(text) and not ended:
            break  # a number may go on, and the comma is not seen yet
        if after >= len(text) or text[after] not in ",]":
            rows.append(clean(row, text[place:end]))
            raise _broken(label, number + len(rows), text[after : after + 80].encode())
        rows.append(clean(row, text[place:end]))
        place = after + 1 if text[after] == "," else after
    used = len(text[:place].encode())
    return (Batch(label, number, rows=rows) if rows else None), used, closed


def _text(buffer: bytes, number: int, label: str, ended: bool) -> str:
    """The buffer as text, without the half character that a block may end in."""
    try:
        return buffer.decode()
    except UnicodeDecodeError as error:
        if not ended and error.start >= len(buffer) - 3:
            return buffer[: error.start].decode()
        before = buffer[: error.start].decode()
        raise not_utf8(label, number + _elements(before), error) from None


def _elements(text: str) -> int:
    """How many whole elements `text` starts with."""
    count = place = 0
    while True:
        try:
            _, place = _DECODE(text, _skip(text, place))
        except (ValueError, RecursionError):
            return count
        count, place = count + 1, _skip(text, place) + 1


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _nothing_after(buffer: bytes, stream: Stream, number: int) -> None:
    if buffer.strip(SPACE) or stream.read(BATCH_BYTES).strip(SPACE):
        raise UserError(
            f"{stream.label}: there is more text after the array's closing bracket (after row {number - 1}); expected one array"
        )


def _broken(label: str, number: int, near: bytes) -> UserError:
    if not near.strip(SPACE):
        return UserError(
            f"{label}: the JSON array ends after row {number - 1} without a closing bracket (a truncated file?); fetch it again"
        )
    shown = near.strip(SPACE)[:40].decode(errors="replace")
    return UserError(
        f"{label}: row {number} of the JSON array is broken or cut off near {shown!r}; expected a whole JSON value and then , or ]"
    )
