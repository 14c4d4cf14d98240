"""De-duplicate encoded batches and write them: train.jsonl, val.jsonl, test.jsonl, rejects.jsonl of one folder."""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path
from types import TracebackType

from converters.encode import Encoded
from converters.splits import SPLITS


class Writer:
    """Takes encoded batches in order. `seen`, the ids so far (64 bits each), is the only thing that grows with the rows.

    Two different bodies share 64 bits with a chance of n²/2^65: 7e-7 for five million rows.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {name: open(folder / f"{name}.jsonl", "wb", buffering=1 << 20) for name in (*SPLITS, "rejects")}  # noqa: SIM115
        self.seen: set[int] = set()
        self.rows_in = self.duplicates = 0
        self.kept = dict.fromkeys(SPLITS, 0)
        self.reasons: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        self.held: tuple[set[int], set[int], set[int]] = (set(), set(), set())  # groups of published val and test rows
        self.crossing: set[int] = set()

    def add(self, batch: Encoded, published: int = -1) -> int:
        """Write one batch; returns how many of its rows were kept. `published` is the input's split index or -1."""
        self.rows_in += batch.rows
        self.reasons.update(batch.reasons)
        self.repaired.update(batch.repaired)
        if batch.rejects:
            self._write("rejects", batch.rejects)
        codes = self._crossings(batch, published) if batch.groups is not None else batch.codes
        twice = self._twice(batch.ids)
        if codes is batch.codes:
            self._write_without(batch, twice)
        else:
            self._write_moved(batch, codes, set(twice))
        self.duplicates += len(twice)
        for code, split in enumerate(SPLITS):
            self.kept[split] += codes.count(code) - sum(codes[row] == code for row in twice)
        return len(codes) - len(twice)

    def _twice(self, ids: array) -> list[int]:
        """The rows of a batch whose ids were seen before; all ids are seen from now on."""
        fresh = set(ids)
        if len(fresh) == len(ids) and self.seen.isdisjoint(fresh):
            self.seen |= fresh  # three passes in C, against one in Python below
            return []
        found = []
        for row, number in enumerate(ids):
            if number in self.seen:
                found.append(row)
            else:
                self.seen.add(number)
        return found

    def _write_without(self, batch: Encoded, twice: list[int]) -> None:
        """Write the blobs around the lines of the rows `twice`."""
        for code, split in enumerate(SPLITS):
            blob, edges, start = memoryview(batch.blobs[code]), batch.edges[code], 0
            for row in twice:
                if batch.codes[row] == code:
                    number = batch.codes.count(code, 0, row)
                    self._write(split, blob[start : edges[number]])
                    start = edges[number + 1]
            self._write(split, blob[start:])

    def _write_moved(self, batch: Encoded, codes: bytes, twice: set[int]) -> None:
        """Some rows of the batch go to another split than they were encoded for: write line by line."""
        numbers = [0, 0, 0]
        for row, (code, target) in enumerate(zip(batch.codes, codes, strict=True)):
            start, end = batch.edges[code][numbers[code] : numbers[code] + 2]
            numbers[code] += 1
            if row not in twice:
                self._write(SPLITS[target], batch.blobs[code][start:end])

    def _crossings(self, batch: Encoded, published: int) -> bytes:
        """Groups that the publisher put on two sides are counted. Rows that SPLITS places join their group's published side."""
        assert batch.groups is not None
        _, val, test = self.held
        if published >= 0:
            for group in batch.groups:
                if (published != 2 and group in test) or (published == 0 and group in val):
                    self.crossing.add(group)
            if published > 0:
                self.held[published].update(batch.groups)
            return batch.codes
        codes = bytes(
            2 if group in test else 1 if group in val else code
            for group, code in zip(batch.groups, batch.codes, strict=True)
        )
        return codes if codes != batch.codes else batch.codes

    def _write(self, name: str, data: bytes | memoryview) -> None:
        if data:
            self._files[name].write(data)

    def close(self) -> None:
        """Flush and close the files."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
