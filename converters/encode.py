"""The hot path: a batch of stored rows → finished output lines. Pure; runs in this process or in a worker.

Per row: parse, convert, encode the body once, id = SHA-256 of those bytes (`row_id`), share = SHA-256 of the group, splice the line. De-duplication and writing are the parent's (`writing.py`).
"""

from __future__ import annotations

import json
import re
from array import array
from binascii import hexlify
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from converters.batches import Batch, Unreadable, lenient
from converters.shape import Options, Reject, Shape
from converters.sources import shape_named
from converters.splits import normalise_all

# a chat template's own markers: in a row's text they would become real turns when the row is tokenised
CONTROL = re.compile(rb"<\|(?:im_start|im_end|endoftext)\|>")


@dataclass(frozen=True)
class Job:
    """What the encoder must know of one input. `split` is the index of its published split, -1 when SPLITS decides."""

    source: str
    shape: str
    label: str
    options: Options
    seed: int
    bounds: tuple[bytes, bytes]
    split: int = -1
    with_groups: bool = False


class Encoded(NamedTuple):
    """The rows of one batch, encoded. ids, codes and groups are in row order.

    blobs[split] holds that split's lines in order; line n lies between edges[split][n] and edges[split][n + 1].
    """

    rows: int
    ids: array  # of unsigned 64-bit
    codes: bytes  # 0 train, 1 val, 2 test
    blobs: tuple[bytes, ...]
    edges: tuple[array, ...]  # of unsigned 64-bit
    groups: array | None  # of unsigned 64-bit; only when asked for
    rejects: bytes
    reasons: dict[str, int]
    repaired: dict[str, int]


def row_id(body: dict[str, Any]) -> str:
    """The id of {"messages"} or {"messages", "chosen", "rejected"}: SHA-256 of its compact JSON, keys in that order, role before content."""
    return sha256(orjson.dumps(body)).hexdigest()[:16]


def encode(batch: Batch, job: Job) -> Encoded:
    """Convert and encode one batch. Raises UserError only for text that is not UTF-8."""
    shape = shape_named(job.source, job.shape)
    convert, options, loads, dumps = shape.convert, job.options, orjson.loads, orjson.dumps
    contents: list[bytes] = []
    groups: list[str] = []
    ends: list[bytes] = []
    rejects: list[bytes] = []
    reasons: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    count = 0
    as_text = batch.lines is not None and shape.expand is None
    stored: Iterable[tuple[Any, Any]] = batch.stored() if shape.expand is None else _expanded(batch, shape)
    for position, row in stored:
        count += 1
        try:
            if as_text:
                # parsed here and not in one go: the row is converted while it is still in the processor's cache
                line = row
                try:
                    row = loads(line)
                except orjson.JSONDecodeError:
                    if not line.strip():
                        count -= 1
                        continue
                    row = lenient(line, job.label, position)
            if row.__class__ is not dict:
                raise Reject(row.reason if isinstance(row, Unreadable) else "not-an-object")
            body, group, meta = convert(row, options)
            content = dumps(body)
            if b"<|" in content and CONTROL.search(content):
                raise Reject("control-marker")
            if meta:
                if "source" in meta or "origin" in meta:
                    meta = {f"row_{key}" if key in ("source", "origin") else key: value for key, value in meta.items()}
                if "repaired" in meta:
                    repaired[meta["repaired"]] += 1
                end = b'",%b}\n' % dumps(meta)[1:]
            else:
                end = b'"}}\n'
        except Reject as reject:
            reasons[reject.reason] += 1
            rejects.append(_reject_line(job.label, position, reject.reason, row))
            continue
        except TypeError as error:
            # half a surrogate pair or an integer past 64 bits, from a reader that lets them through
            reason = _unstorable(error)
            reasons[reason] += 1
            rejects.append(_reject_line(job.label, position, reason, row))
            continue
        contents.append(content)
        groups.append(group)
        ends.append(b"%d%b" % (position, end) if position.__class__ is int else position + end)
    heads = [sha256(content).digest()[:8] for content in contents]
    salt = b"%d\n" % job.seed
    places = [sha256(salt + group).digest()[:8] for group in normalise_all(groups)]
    first, second = job.bounds
    if job.split < 0:
        codes = bytes([0 if place < first else 1 if place < second else 2 for place in places])
    else:
        codes = bytes([job.split]) * len(places)
    between = b',"meta":{"source":%b,"origin":%b:' % (dumps(shape.name), dumps(job.label)[:-1])
    lines: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    for code, head, content, end in zip(codes, heads, contents, ends, strict=True):
        lines[code].append(b"".join((b'{"id":"', hexlify(head), b'",', content[1:-1], between, end)))
    return Encoded(
        rows=count,
        ids=array("Q", b"".join(heads)),
        codes=codes,
        blobs=tuple(map(b"".join, lines)),
        edges=tuple(array("Q", accumulate(map(len, one), initial=0)) for one in lines),
        groups=array("Q", b"".join(places)) if job.with_groups else None,
        rejects=b"".join(rejects),
        reasons=dict(reasons),
        repaired=dict(repaired),
    )


def _expanded(batch: Batch, shape: Shape) -> Iterator[tuple[bytes, Any]]:
    """Stored rows → items, positions "row.item". A row that gives no item stays one Unreadable, so that nothing vanishes."""
    assert shape.expand is not None
    for position, row in zip(*batch.parse(), strict=True):
        if row.__class__ is Unreadable:
            found: list[Any] = [row]
        else:
            try:
                found = list(shape.expand(row)) or [Unreadable("no-items", row)]
            except Reject as reject:
                found = [Unreadable(reject.reason, row)]
        for number, item in enumerate(found, 1):
            yield b"%d.%d" % (position, number), item


def _unstorable(error: Exception) -> str:
    message = str(error)
    if "surrogate" in message:
        return "lone-surrogate"
    return "integer-past-64-bits" if "64-bit" in message else f"defect-{type(error).__name__}"


def _reject_line(label: str, position: int | bytes, reason: str, row: Any) -> bytes:
    """One line of rejects.jsonl: {"origin", "reason", "row"}; whatever the row holds, it can be written."""
    where = position.decode() if isinstance(position, bytes) else position
    entry = {"origin": f"{label}:{where}", "reason": reason, "row": row.row if isinstance(row, Unreadable) else row}
    try:
        return orjson.dumps(entry, None, orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(entry, default=repr).encode() + b"\n"
