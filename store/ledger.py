"""Append-only JSONL keyed by content: what is in it was done and is never done again."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from store.errors import UserError


class Ledger:
    """``{"key": …, "row": …}`` a line. A torn last line (a kill in the middle of a write) is cut off when opened.

    ``rows`` maps key → row; a key written twice keeps its last row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, Any] = {}
        self._stream = open(self.path, "a+b")  # noqa: SIM115 (open for the ledger's life)
        self._load()

    def _load(self) -> None:
        self._stream.seek(0)
        good = 0
        for number, line in enumerate(self._stream, 1):
            if not line.endswith(b"\n"):
                break
            try:
                entry = orjson.loads(line)
                self.rows[entry["key"]] = entry["row"]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}:{number}: not a ledger line ({error}); move the file away to start over"
                ) from None
            good += len(line)
        self._stream.truncate(good)
        self._stream.seek(0, os.SEEK_END)

    def append(self, key: str, row: Any) -> None:
        """Add one row and sync it to disk before returning."""
        self._stream.write(orjson.dumps({"key": key, "row": row}) + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.rows[key] = row

    def close(self) -> None:
        """Close the file; the rows stay readable."""
        self._stream.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
