"""De-duplicate encoded batches and write them: train.jsonl, val.jsonl, test.jsonl, rejects.jsonl of one folder."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from types import TracebackType

from converters.compression import SideHash
from converters.encode import Encoded
from converters.splits import SPLITS


class Writer:
    """Takes encoded batches in order. `seen`, the ids so far (64 bits each), is the only thing that grows with the rows.

    Two different bodies share 64 bits with a chance of n²/2^65: 7e-7 for five million rows.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {name: open(folder / f"{name}.jsonl", "wb", buffering=1 << 20) for name in (*SPLITS, "rejects")}  # noqa: SIM115
        self._hashes = {name: SideHash() for name in self._files}
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
        fresh = set(batch.ids)
        if codes is batch.codes and len(fresh) == len(batch.ids) and self.seen.isdisjoint(fresh):
            self.seen |= fresh
            for code, split in enumerate(SPLITS):
                self._write(split, batch.blobs[code])
                self.kept[split] += codes.count(code)
            return len(codes)
        return self._add_one_by_one(batch, codes)

    def _add_one_by_one(self, batch: Encoded, codes: bytes) -> int:
        """The batch holds a duplicate, or rows that move to another split."""
        lines = [iter(io.BytesIO(blob)) for blob in batch.blobs]
        kept: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        for number, code, target in zip(batch.ids, batch.codes, codes, strict=True):
            line = next(lines[code])
            if number in self.seen:
                self.duplicates += 1
                continue
            self.seen.add(number)
            kept[target].append(line)
        for code, split in enumerate(SPLITS):
            self._write(split, b"".join(kept[code]))
            self.kept[split] += len(kept[code])
        return sum(map(len, kept))

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

    def _write(self, name: str, data: bytes) -> None:
        if data:
            self._files[name].write(data)
            self._hashes[name].update(data)

    def close(self) -> None:
        """Flush and close the files."""
        for file in self._files.values():
            file.close()
        for one in self._hashes.values():
            one.close()

    def digests(self) -> dict[str, str]:
        """File name → SHA-256; after close."""
        return {f"{name}.jsonl": one.hexdigest() for name, one in self._hashes.items()}

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
